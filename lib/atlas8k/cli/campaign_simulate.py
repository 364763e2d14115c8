"""``atlas8k campaign simulate``: rounds with an annotator who knows the truth, on a copy."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atlas8k.cli.campaign import AsJson, Epochs, Steps, campaign
from atlas8k.cli.options import MODELS, Conf, Models, existing_studies, folder_only, settings_of

__all__ = ["campaign"]

if TYPE_CHECKING:
    from atlas8k.campaign.simulation import SimulatedRound

NOT_COPIED = ("kept-aside", "training-state", "train_stats.json", ".*")


@campaign.command()
def simulate(
    studies: Annotated[Path, typer.Option(help="folder of CTs; it is not touched")],
    truth: Annotated[Path, typer.Option(help="folder of their true labels")],
    rounds: Annotated[int, typer.Option(min=1, help="in all, those done already included")] = 2,
    out: Annotated[
        Path | None, typer.Option(help="working folder; by default STUDIES-simulation")
    ] = None,
    models: Models = MODELS,
    below: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="correct organs of a DSC below this only; else all"),
    ] = None,
    budget: Annotated[float, typer.Option(help="fraction of the volumes to review a round")] = 0.05,
    audit_percent: Annotated[
        float | None, typer.Option(help="% of the low-ranked to audit; 1 where nothing is said")
    ] = None,
    stop_after: Annotated[
        int | None, typer.Option(help="see `campaign status`; 10 where nothing is said")
    ] = None,
    network: Annotated[str, typer.Option(help="all, or names with commas between")] = "all",
    epochs: Epochs = None,
    steps: Steps = None,
    gate: Annotated[bool, typer.Option(help="serve only what is no worse")] = True,
    conf: Conf = None,
    as_json: AsJson = False,
) -> None:
    """Two rounds, or more, with labels corrected from the truth: what are rounds worth?

    Samples are handed out by the ledger, labels submitted as by a client, networks trained
    and judged by the trainer. CTs and networks are linked or copied into the working folder
    first. Interrupted, it goes on where it was when the command is repeated.
    """
    folder_only(studies, "its CTs are copied: give a folder of CTs")
    existing_studies(studies)
    from atlas8k.campaign.pictures import draw_simulation
    from atlas8k.campaign.simulation import FILE, Simulation, Truth
    from atlas8k.cli.campaign_tables import print_simulation
    from atlas8k.cli.campaign_work import bar, opened, told

    folder = out or studies.resolve().parent / f"{studies.resolve().name}-simulation"
    known = Truth(truth)
    copied, networks = folder / "studies", folder / "model"
    link_images(studies, copied)
    copy_networks(models, networks)
    given = {
        "max_epochs": "" if epochs is None else str(epochs),
        "steps_per_epoch": "" if steps is None else str(steps),
        **settings_of(conf),
        "budget": str(budget),
        "gate": str(gate),
    }
    with (
        bar("predicting") as (report, say),
        opened(copied, networks, given, networks=network, report=report) as work,
    ):
        told(work, given, audit_percent, stop_after)
        found = Simulation(work, known, folder, below=below, report=say).run(rounds)
    write_csv(folder / "simulation.csv", found)
    draw_simulation(folder / "simulation.png", found)
    if as_json:
        typer.echo((folder / FILE).read_text(encoding="utf-8"))
        return
    print_simulation(found)
    typer.echo(f"{folder / FILE}, simulation.csv, simulation.png; in detail:")
    typer.echo(f"atlas8k campaign status --studies {copied} --models {networks}")


def link_images(studies: Path, target: Path) -> None:
    """The CTs of a studies folder in another one, as hard links where that is possible.

    Raises
    ------
    LedgerError
        There is no CT in the folder, or no such folder.
    """
    from atlas8k.errors import LedgerError
    from atlas8k.server.studies.names import IMAGE_SUFFIXES
    from atlas8k.server.studies.scan import scan_images

    files = scan_images(studies, IMAGE_SUFFIXES).files if studies.is_dir() else {}
    if not files:
        raise LedgerError(f"{studies}: no CT is there; give the folder of the volumes")
    for file in files.values():
        made = target / file.path
        if made.exists():
            continue
        made.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(studies / file.path, made)
        except OSError:  # another disk, or one without links
            temporary = made.with_name(f".{made.name}.tmp")
            shutil.copyfile(studies / file.path, temporary)
            temporary.replace(made)


def copy_networks(models: Path, target: Path) -> None:
    """A folder of checkpoints, copied whole or not at all; what is there stays."""
    from atlas8k.errors import CheckpointError

    if target.exists():
        return
    if not models.is_dir():
        raise CheckpointError(models, "no such folder; give the folder of checkpoints")
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(models, temporary, ignore=shutil.ignore_patterns(*NOT_COPIED))
    temporary.replace(target)


def write_csv(path: Path, rounds: list[SimulatedRound]) -> None:
    """One line a round and phase: means, then every organ."""
    from atlas8k.organs import ORGAN_NAMES

    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "w", newline="", encoding="utf-8") as stream:
        sheet = csv.writer(stream)
        sheet.writerow(
            ["round", "phase", "signature", "reviewed", "dsc", "dsc_unreviewed", *ORGAN_NAMES]
        )
        for one in rounds:
            for phase in ("before", "revised", "after"):
                measured = getattr(one, phase)
                if measured is None:
                    continue
                means = (measured.dsc, measured.dsc_unreviewed)
                values = [*means, *(measured.organs.get(organ) for organ in ORGAN_NAMES)]
                sheet.writerow(
                    [one.round, phase, one.signature, measured.reviewed]
                    + ["" if value is None else f"{value:.4f}" for value in values]
                )
    temporary.replace(path)
