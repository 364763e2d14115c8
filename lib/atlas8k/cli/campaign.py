"""``atlas8k campaign``: status of the rounds, ending one, the next one, and a simulation."""

from __future__ import annotations

import getpass
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from atlas8k.cli.campaign_tables import (
    print_simulation,
    print_status,
    print_steps,
    print_strategies,
)
from atlas8k.cli.open_studies import existing_studies, folder_only, ledger_of, scoring_bar
from atlas8k.cli.options import (
    MODELS,
    ClusterAddress,
    ClusterWorkers,
    Commands,
    Conf,
    Epochs,
    LedgerFile,
    Models,
    Names,
    Networks,
    Steps,
    Studies,
    settings_of,
)
from atlas8k.core.errors import CheckpointError, LedgerError

if TYPE_CHECKING:
    from atlas8k.campaign.reports import Status
    from atlas8k.campaign.simulation import SimulatedRound
    from atlas8k.store import Holder, Ledger

campaign = Commands(
    help="The eight steps as rounds: status, end of a round, the next one, a simulation."
)

StatusAsJson = Annotated[
    bool, typer.Option("--json", help="as JSON; `campaign schema` describes it")
]
Volumes = Annotated[list[str], typer.Argument(help="ids of volumes, as in the list")]

NOT_COPIED = ("kept-aside", "training-state", "train_stats.json", ".*")


def campaign_status(
    ledger: Ledger,
    studies: str,
    models: Path,
    *,
    model_version: str | None = None,
    names: bool = False,
) -> Status:
    """Return the campaign's status; record the trainer's last results first.

    `model_version` is the model version of the served networks; where it is not known, the one
    that a server or a scoring has used last counts, whatever its settings were.
    """
    from atlas8k.campaign import learning
    from atlas8k.campaign.status import status
    from atlas8k.core.files import read_json
    from atlas8k.models.store import ModelStore

    with suppress(OSError, ValueError):  # being written, or not the trainer's
        learning.record_training(ledger, read_json(models / learning.STATS))
    model_version = model_version or ledger.last_model_version()
    if model_version is None:
        try:
            model_version = ModelStore(models).served().model_version
        except CheckpointError:
            model_version = None
    return status(
        ledger,
        model_version=model_version,
        names=names,
        running=running(ledger, models),
        studies=studies,
    )


def running(ledger: Ledger, models: Path) -> list[str]:
    """Return the kinds of work of other processes on the same folder or networks."""
    locks = {"scoring": ledger.path.parent / "scoring.lock", "training": models / ".training.lock"}
    return [kind for kind, lock in locks.items() if _is_held(lock)]


def _is_held(lock: Path) -> bool:
    import fcntl

    try:
        with open(lock, "rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


@campaign.command("status")
def status_(
    studies: Studies = ".",
    ledger: LedgerFile = None,
    models: Models = MODELS,
    as_json: StatusAsJson = False,
    names: Names = False,
    plot: Annotated[
        Path | None, typer.Option(help="also draw the list and the rounds into this .png or .svg")
    ] = None,
) -> None:
    """Show rounds, changes, minutes, stop rule, audits, and which of the eight steps are due."""
    with ledger_of(studies, ledger) as book:
        status = campaign_status(book, studies, models, names=names)
        list_round = status.stop.round if status.stop else 0  # the last round that has a list
        plan, work = book.plan(list_round), book.worked(list_round)
    if plot is not None:
        from atlas8k.campaign.pictures import draw

        draw(plot, status, plan, work)
    if as_json:
        typer.echo(status.model_dump_json(indent=1))
        return
    print_status(status)
    if plot is not None:
        typer.echo(str(plot))


@campaign.command()
def schema() -> None:
    """Print the JSON schema of `campaign status --json` and of GET /atlas8k/campaign."""
    from atlas8k.campaign.reports import Status

    typer.echo(json.dumps(Status.model_json_schema(mode="serialization"), indent=1))


@campaign.command("close-round")
def close_round(
    studies: Studies = ".",
    ledger: LedgerFile = None,
    note: Annotated[str, typer.Option(help="why, for the records")] = "",
    force: Annotated[bool, typer.Option(help="even if nothing was submitted in it")] = False,
    as_json: StatusAsJson = False,
) -> None:
    """End the open round without fine-tuning; the next sample or `next` opens another.

    Repeated, it does nothing.
    """
    with ledger_of(studies, ledger) as book:
        number = book.close_round({"note": note or "closed by command"}, only_reviewed=not force)
        last = book.rounds()[-1:] if number is None else []
    if as_json:
        typer.echo(json.dumps({"closed": number, "open": None}))
    elif number is not None:
        typer.echo(f"round {number} is closed")
    elif last:
        typer.echo(f"no round is open; round {last[0].number} was the last")
    else:
        typer.echo("no round is open; the first begins with the first sample")


@campaign.command("reopen-round")
def reopen_round(studies: Studies = ".", ledger: LedgerFile = None) -> None:
    """Undo `close-round`: the last round is open again, with its list."""
    with ledger_of(studies, ledger) as book:
        typer.echo(f"round {book.reopen_round()} is open again")


@campaign.command("next")
def next_(
    studies: Studies = ".",
    ledger: LedgerFile = None,
    models: Models = MODELS,
    train: Annotated[
        bool, typer.Option(help="fine-tune and end the round once its budget is used")
    ] = True,
    score: Annotated[bool, typer.Option(help="predict and rank what is stale")] = True,
    early: Annotated[bool, typer.Option(help="fine-tune before the budget is used")] = False,
    network: Networks = "all",
    epochs: Epochs = None,
    steps: Steps = None,
    budget: Annotated[
        float | None,
        typer.Option(help="of the next round, whoever begins it; the last one's by default"),
    ] = None,
    audit_percent: Annotated[
        float | None, typer.Option(help="% of the low-ranked volumes to audit from the next list")
    ] = None,
    stop_after: Annotated[
        int | None,
        typer.Option(help="so many in a row without a change can end it, from the next list on"),
    ] = None,
    conf: Conf = None,
    cluster: ClusterAddress = "",
    workers: ClusterWorkers = 0,
    dry_run: Annotated[bool, typer.Option(help="only say which steps are due")] = False,
    as_json: StatusAsJson = False,
) -> None:
    """Do the steps that need no people: fine-tune and judge, end the round, predict, rank.

    Then print which of the eight steps remain. Repeated, it goes on where it was
    interrupted, or does nothing. A server may run on the folder meanwhile; give it and this
    command the same --conf.
    """
    if dry_run:
        with ledger_of(studies, ledger) as book:
            status = campaign_status(book, studies, models)
        _print_next(status, as_json)
        return
    existing_studies(studies)
    from atlas8k.cli.campaign_work import open_campaign, record_settings
    from atlas8k.services.campaign import advance

    settings = settings_of(
        conf, ledger=ledger, max_epochs=epochs, steps_per_epoch=steps, budget=budget
    )
    with (
        scoring_bar("predicting") as (report, print_text),
        open_campaign(
            studies, models, settings, networks=network, report=report,
            cluster=cluster, workers=workers,
        ) as work,
    ):  # fmt: skip
        record_settings(work, settings, audit_percent, stop_after)
        advanced = advance(work, train=train, score=score, early=early, report=print_text)
        status = campaign_status(
            work.ledger, studies, work.models, model_version=work.model_version()
        )
    if not as_json and advanced.ended is not None:
        typer.echo(
            f"round {advanced.ended} has ended: "
            + (advanced.trained.message if advanced.trained else "no training of it was recorded")
        )
        if advanced.stop is not None:
            typer.echo(f"stop rule of round {advanced.ended}: {advanced.stop.text}")
    _print_next(status, as_json)


def _print_next(status: Status, as_json: bool) -> None:
    if as_json:
        typer.echo(status.model_dump_json(indent=1))
        return
    where = "no round is open" if status.round is None else f"round {status.round} is open"
    typer.echo(f"{where}, networks {status.model_version or 'none'}")
    print_steps(status)


@campaign.command()
def exclude(
    volumes: Volumes,
    reason: Annotated[str, typer.Option(help="why, for the records")],
    studies: Studies = ".",
    ledger: LedgerFile = None,
) -> None:
    """Mark CTs as not usable: out of list, budget, audits and training.

    Their labels stay, and `include` undoes it.
    """
    with ledger_of(studies, ledger) as book:
        holder = _user_of(book, volumes)
        for volume in volumes:
            book.exclude(volume, reason, holder)
            typer.echo(f"{volume}: not usable: {reason}")


@campaign.command()
def include(
    volumes: Volumes,
    reason: Annotated[str, typer.Option(help="why, for the records")] = "",
    studies: Studies = ".",
    ledger: LedgerFile = None,
) -> None:
    """Mark CTs as usable again, whatever their content looks like."""
    with ledger_of(studies, ledger) as book:
        holder = _user_of(book, volumes)
        for volume in volumes:
            changed = book.include(volume, reason, holder)
            outcome = "counts again; score it with `atlas8k score`" if changed else "counts already"
            typer.echo(f"{volume}: {outcome}")


def _user_of(book: Ledger, volumes: list[str]) -> Holder:
    """Return the user of this computer; raise for unknown volumes before anything is done."""
    from atlas8k.store import Holder

    unknown = [volume for volume in volumes if volume not in book.statuses()]
    if unknown:
        raise LedgerError(f"{', '.join(unknown)}: no such volume in {book.path}")
    return Holder.identify(client_id=getpass.getuser())


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
        float | None, typer.Option(help="% of the low-ranked to audit; default 1")
    ] = None,
    stop_after: Annotated[
        int | None, typer.Option(help="see `campaign status`; default 10")
    ] = None,
    network: Networks = "all",
    epochs: Epochs = None,
    steps: Steps = None,
    gate: Annotated[bool, typer.Option(help="serve only what is no worse")] = True,
    conf: Conf = None,
    strategies: Annotated[
        bool,
        typer.Option("--strategies", help="orders of review side by side, without fine-tuning"),
    ] = False,
    seeds: Annotated[int, typer.Option(min=2, help="of --strategies: parts of the pool")] = 5,
    oracle: Annotated[
        Literal["everything", "places", "noisy"],
        typer.Option(help="corrects everything, the places shown alone, or with a noisy boundary"),
    ] = "everything",
    stroke_seconds: Annotated[
        float | None,
        typer.Option(min=0, help="also tell the minutes with strokes of so many seconds each"),
    ] = None,
    cluster: ClusterAddress = "",
    workers: ClusterWorkers = 0,
    as_json: StatusAsJson = False,
) -> None:
    """Simulate rounds with labels corrected from the truth: what are rounds worth?

    Samples are handed out by the ledger, labels submitted as by a client, networks trained
    and judged by the trainer. CTs and networks are linked or copied into the working folder
    first. Interrupted, it goes on where it was when the command is repeated, with --strategies
    as well.
    """
    folder_only(studies, "its CTs are copied: give a folder of CTs")
    existing_studies(studies)
    from atlas8k.campaign.pictures import draw_simulation
    from atlas8k.campaign.simulation import FILE, Truth
    from atlas8k.cli.campaign_work import open_campaign, record_settings
    from atlas8k.services.simulation import Simulation, side_by_side

    folder = out or studies.resolve().parent / f"{studies.resolve().name}-simulation"
    true_labels = Truth(truth)
    copied, networks = folder / "studies", folder / "model"
    link_images(studies, copied)
    copy_networks(models, networks)
    settings = settings_of(None, max_epochs=epochs, steps_per_epoch=steps)
    settings |= settings_of(conf, budget=budget, gate=gate)
    with (
        scoring_bar("predicting") as (report, print_text),
        open_campaign(
            copied, networks, settings, networks=network, report=report,
            cluster=cluster, workers=workers,
        ) as work,
    ):  # fmt: skip
        record_settings(work, settings, audit_percent, stop_after)
        if strategies:
            found = side_by_side(
                work, true_labels, seeds=seeds, rounds=rounds, share=budget, below=below,
                oracle=oracle, folder=folder / "measured", report=print_text,
            )  # fmt: skip
            name = "strategies.json" if oracle == "everything" else f"strategies-{oracle}.json"
            print_strategies(found, seeds, folder / name, as_json=as_json)
            return
        simulated = Simulation(
            work, true_labels, folder, below=below, oracle=oracle, report=print_text,
            seconds_a_stroke=stroke_seconds,
        ).run(rounds)  # fmt: skip
    write_csv(folder / "simulation.csv", simulated)
    draw_simulation(folder / "simulation.png", simulated)
    if as_json:
        typer.echo((folder / FILE).read_text(encoding="utf-8"))
        return
    print_simulation(simulated)
    typer.echo(f"{folder / FILE}, simulation.csv, simulation.png; in detail:")
    typer.echo(f"atlas8k campaign status --studies {copied} --models {networks}")


def link_images(studies: Path, target: Path) -> None:
    """Copy the CTs of a studies folder into another one, as hard links where possible.

    Raises
    ------
    LedgerError
        There is no CT in the folder, or no such folder.
    """
    from atlas8k.services.studies.names import IMAGE_SUFFIXES
    from atlas8k.services.studies.scan import scan_images

    files = scan_images(studies, IMAGE_SUFFIXES).files if studies.is_dir() else {}
    if not files:
        raise LedgerError(f"{studies}: no CT is there; give the folder of the volumes")
    for file in files.values():
        link = target / file.path
        if link.exists():
            continue
        link.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(studies / file.path, link)
        except OSError:  # another disk, or one without links
            temporary = link.with_name(f".{link.name}.tmp")
            shutil.copyfile(studies / file.path, temporary)
            temporary.replace(link)


def copy_networks(models: Path, target: Path) -> None:
    """Copy a folder of checkpoints, complete or not at all; an existing copy stays."""
    if target.exists():
        return
    if not models.is_dir():
        raise CheckpointError(models, "no such folder; give the folder of checkpoints")
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(models, temporary, ignore=shutil.ignore_patterns(*NOT_COPIED))
    temporary.replace(target)


def write_csv(path: Path, rounds: list[SimulatedRound]) -> None:
    """Write a CSV with one row a round and phase: means, then every organ."""
    import pandas as pd

    from atlas8k.core.csv_text import frame_text
    from atlas8k.core.structures import ORGAN_NAMES
    from atlas8k.reports.results import write_text

    rows = []
    for simulated in rounds:
        for phase in ("before", "revised", "after"):
            measured = getattr(simulated, phase)
            if measured is not None:
                row = {
                    "round": simulated.round,
                    "phase": phase,
                    "model_version": simulated.model_version,
                }
                figures = ("reviewed", "dsc", "dsc_unreviewed")
                row |= {name: getattr(measured, name) for name in figures}
                rows.append(row | {organ: measured.organs.get(organ) for organ in ORGAN_NAMES})
    table = pd.DataFrame(rows)
    write_text(path, frame_text(table, digits="%.4f", end="\r\n"))
