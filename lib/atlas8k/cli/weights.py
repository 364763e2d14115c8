"""``atlas8k weights``: published networks brought in, listed, and served."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atlas8k.cli.options import MODELS, Commands, Models

if TYPE_CHECKING:
    from atlas8k.models.importing import Options
    from atlas8k.models.store import Network

weights = Commands(help="Bring published networks, see which there are, serve them.")


@weights.command("import")
def import_(
    file: Annotated[
        Path, typer.Argument(help=".pth file, nnU-Net v2 results folder, or MONAI bundle folder")
    ],
    kind: Annotated[
        str | None,
        typer.Option("--as", help="unet, swin_unetr, segresnet, nnunet, bundle; else as it looks"),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="name of the network; the kind's, or the bundle's")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="names of the output channels in their order, with commas between"),
    ] = None,
    folds: Annotated[
        str | None,
        typer.Option(
            "--folds",
            "--fold",
            help="of an nnU-Net folder: 0, or 0,1,2 averaged, or all; otherwise fold_all, "
            "else every fold there is, averaged",
        ),
    ] = None,
    orientation: Annotated[
        str | None,
        typer.Option(
            help="directions of the axes of the volumes it was trained on, such as RAS or LPS; "
            "asked for where its files do not say it"
        ),
    ] = None,
    find_orientation: Annotated[
        Path | None,
        typer.Option(
            metavar="CT", help="find the orientation out: try all eight on this CT and compare"
        ),
    ] = None,
    label: Annotated[
        Path | None,
        typer.Option(help="with --find-orientation: organs of that CT; else the active networks'"),
    ] = None,
    patch_merging: Annotated[
        str | None,
        typer.Option(help="of a Swin UNETR: older (MONAI before 1.5), merging, mergingv2"),
    ] = None,
    publish: Annotated[bool, typer.Option("--publish", help="and serve it")] = False,
    instead: Annotated[
        bool, typer.Option("--replace", help="in place of one of this name")
    ] = False,
    models: Models = MODELS,
) -> None:
    """Bring a network: its tensors are matched by name, or the file is refused with a list."""
    from atlas8k.models.importing import Options, import_weights
    from atlas8k.models.store import ModelStore

    if label is not None and find_orientation is None:
        raise typer.BadParameter("belongs to --find-orientation CT", param_hint="--label")
    if orientation is not None:
        orientation = orientation.upper()
        if find_orientation is not None:
            raise typer.BadParameter("give it or --find-orientation", param_hint="--orientation")
        if not re.fullmatch("[RL][AP][SI]", orientation):
            raise typer.BadParameter(
                f"{orientation!r}: R or L, A or P, S or I in this order are needed, such as LPS; "
                "volumes stored along other axes are not supported",
                param_hint="--orientation",
            )
    options = Options(
        name=name,
        classes=None if classes is None else tuple(c.strip() for c in classes.split(",")),
        folds=None if folds is None else tuple(f.strip() for f in folds.split(",")),
        orientation=orientation,
        patch_merging=patch_merging,
    )
    if find_orientation is not None:
        options = found_orientation(file, kind, options, find_orientation, label, models)
    imported = import_weights(file, kind, options)
    checkpoint = imported.checkpoint
    path = ModelStore(models).add_imported(checkpoint, replace=instead)
    typer.echo(
        f"{checkpoint.name}: all {imported.tensors} tensors of {checkpoint.origin['file']} "
        f"matched; segments {', '.join(checkpoint.organs)}"
    )
    if imported.left_out:
        typer.echo(f"not used: {', '.join(imported.left_out)}")
    typer.echo(f"kept as {path}")
    if publish:
        note = f"{checkpoint.name} brought from {checkpoint.origin['file']}"
        signature = ModelStore(models).publish({checkpoint.name: checkpoint}, note)
        typer.echo(f"served from now on as part of {signature}")
    else:
        typer.echo(f"not served yet: atlas8k weights publish {checkpoint.name}")


def found_orientation(
    file: Path, kind: str | None, options: Options, ct: Path, label: Path | None, models: Path
) -> Options:
    """Options with the orientation that a CT shows; the table of what was tried is printed.

    Raises
    ------
    CheckpointError
        None is clear, or the network's own files say another one.
    """
    from atlas8k.cli.predict import read_input
    from atlas8k.cli.tables import Column, number, print_table
    from atlas8k.errors import CheckpointError
    from atlas8k.labels.grid_alignment import place
    from atlas8k.models.importing import OrientationUnknownError, import_weights
    from atlas8k.models.importing.orientation import clear, try_orientations
    from atlas8k.models.predict import Predictor
    from atlas8k.models.store import ModelStore
    from atlas8k.volume import read_label

    stated = None
    with suppress(OrientationUnknownError):
        stated = import_weights(file, kind, options).checkpoint.preprocessing.orientation
    tried = import_weights(file, kind, replace(options, orientation="RAS")).checkpoint
    volume, _, _ = read_input(ct)
    if label is not None:
        drawn = read_label(label)
        truth, other = place(drawn.array, drawn.grid, volume.grid, label), str(label)
    else:
        served = ModelStore(models).served()
        truth = Predictor(served).predict(volume).label_on(volume.grid)
        other = f"the active networks ({', '.join(served.checkpoints)})"
    trials = try_orientations(tried, volume, truth)
    organs = (organ.replace("_", " ") for organ in trials[0].dsc)
    print_table(
        [Column("orientation"), *map(number, organs), number("mean")],
        [
            (trial.orientation, *(f"{dsc:.2f}" for dsc in (*trial.dsc.values(), trial.mean)))
            for trial in trials
        ],
        f"DSC of {tried.name} on {ct} with {other}:",
    )
    found = clear(trials)
    command = f"atlas8k weights import {file} --orientation"
    if found is None:
        raise CheckpointError(
            file,
            f"no orientation is clearly the best on {ct}: try another CT, with a --label that "
            f"holds both kidneys or liver and spleen, or type `{command} {trials[0].orientation}` "
            "where you know it",
        )
    if stated not in (None, found):
        raise CheckpointError(
            file, f"says {stated} of itself and {ct} shows {found}: type `{command} …` with one"
        )
    typer.echo(f"orientation {found}: it leads by {trials[0].mean - trials[1].mean:.2f}")
    return replace(options, orientation=found)


@weights.command("publish")
def publish_(
    names: Annotated[list[str], typer.Argument(help="of networks that were imported")],
    only: Annotated[
        bool, typer.Option("--only", help="serve these and none of those served now")
    ] = False,
    models: Models = MODELS,
) -> None:
    """Serve imported networks, in place of those of the same names."""
    from atlas8k.models.store import ModelStore

    store = ModelStore(models)
    checkpoints = {name: store.load_imported(name) for name in names}
    note = ", ".join(f"{n} from {c.origin.get('file', '')}" for n, c in checkpoints.items())
    signature = store.publish(checkpoints, note, alone=only)
    typer.echo(f"{', '.join(store.served().checkpoints)} are served: {signature}")


@weights.command("list")
def list_(
    models: Models = MODELS,
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
) -> None:
    """Networks that are here: where from, for which organs, served or not."""
    from atlas8k.models.store import ModelStore
    from atlas8k.organs import ORGAN_NAMES

    found = ModelStore(models).networks()
    if as_json:
        typer.echo(
            json.dumps([{**vars(n), "file": str(n.file), "organs": list(n.organs)} for n in found])
        )
        return
    from atlas8k.cli.tables import Column, number, print_table, text

    def organs(network: Network) -> str:
        lacking = [organ for organ in ORGAN_NAMES if organ not in network.organs]
        return "all nine" if not lacking else ", ".join(network.organs)

    names = ("network", "architecture", "organs", "origin", "sha256", "MB", "served")
    folding = {"organs": text, "origin": text, "MB": number}
    print_table(
        [folding.get(name, Column)(name) for name in names],
        [
            (
                network.name,
                network.architecture,
                network.problem or organs(network),
                network.origin,
                network.sha256[:12],
                f"{network.size / 1e6:.1f}",
                "yes" if network.served else "no",
            )
            for network in found
        ],
    )
