"""``atlas8k weights``: import published networks, list and serve them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atlas8k.cli.options import MODELS, AsJson, Commands, Models
from atlas8k.cli.terminal_tables import print_table
from atlas8k.core.errors import CheckpointError, SettingsError

if TYPE_CHECKING:
    from atlas8k.content.features import Features, Labels
    from atlas8k.core.volume import Volume
    from atlas8k.models.importing import Options
    from atlas8k.models.store import ModelStore, Network

weights = Commands(help="Bring published networks, see which there are, serve them.")

MIN_ORGANS = 5
"""Training CTs with fewer organs show the background: they are no examples of an abdomen."""
SLAB_MM, SLAB_SLICES = 160.0, 12


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
            "needed where its files do not state it"
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
    """Import a network: match its tensors by name, or refuse the file with a list."""
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
        options = find_orientation_on(file, kind, options, find_orientation, label, models)
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
        model_version = ModelStore(models).publish({checkpoint.name: checkpoint}, note)
        typer.echo(f"served from now on as part of {model_version}")
    else:
        typer.echo(f"not served yet: atlas8k weights publish {checkpoint.name}")


def find_orientation_on(
    file: Path, kind: str | None, options: Options, ct: Path, label: Path | None, models: Path
) -> Options:
    """Find the orientation on a CT, print the trials, and return the options with it.

    Raises
    ------
    CheckpointError
        None is clearly the best, or the network's own files state another one.
    """
    from atlas8k.cli.predict import read_input
    from atlas8k.core.grid_alignment import place
    from atlas8k.core.volume import read_label
    from atlas8k.models.importing import OrientationUnknownError, import_weights
    from atlas8k.models.importing.orientation import clear_winner, try_orientations
    from atlas8k.models.predict import Predictor
    from atlas8k.models.store import ModelStore

    stated = None
    with suppress(OrientationUnknownError):
        stated = import_weights(file, kind, options).checkpoint.preprocessing.orientation
    trial_network = import_weights(file, kind, replace(options, orientation="RAS")).checkpoint
    volume, _, _ = read_input(ct)
    if label is not None:
        drawn = read_label(label)
        truth, reference = place(drawn.array, drawn.grid, volume.grid, label), str(label)
    else:
        served = ModelStore(models).served()
        truth = Predictor(served).predict(volume).label_on(volume.grid)
        reference = f"the active networks ({', '.join(served.checkpoints)})"
    trials = try_orientations(trial_network, volume, truth)
    print_table(
        [
            {"orientation": trial.orientation}
            | {organ.replace("_", " "): f"{dsc:.2f}" for organ, dsc in trial.dsc.items()}
            | {"mean": f"{trial.mean:.2f}"}
            for trial in trials
        ],
        f"DSC of {trial_network.name} on {ct} with {reference}:",
        left=["orientation"],
    )
    orientation = clear_winner(trials)
    command = f"atlas8k weights import {file} --orientation"
    if orientation is None:
        raise CheckpointError(
            file,
            f"no orientation is clearly the best on {ct}: try another CT, with a --label that "
            f"holds both kidneys or liver and spleen, or type `{command} {trials[0].orientation}` "
            "where you know it",
        )
    if stated not in (None, orientation):
        raise CheckpointError(
            file,
            f"says {stated} of itself and {ct} shows {orientation}: type `{command} …` with one",
        )
    typer.echo(f"orientation {orientation}: it leads by {trials[0].mean - trials[1].mean:.2f}")
    return replace(options, orientation=orientation)


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
    model_version = store.publish(checkpoints, note, alone=only)
    typer.echo(f"{', '.join(store.served().checkpoints)} are served: {model_version}")


@weights.command("list")
def list_(
    models: Models = MODELS,
    as_json: AsJson = False,
) -> None:
    """List the networks: origin, organs, and whether they are served."""
    from atlas8k.core.structures import ORGAN_NAMES
    from atlas8k.models.store import ModelStore

    networks = ModelStore(models).networks()
    if as_json:
        typer.echo(
            json.dumps(
                [{**vars(n), "file": str(n.file), "organs": list(n.organs)} for n in networks]
            )
        )
        return

    def organs(network: Network) -> str:
        return "all nine" if {*ORGAN_NAMES} <= {*network.organs} else ", ".join(network.organs)

    print_table(
        [
            {
                "network": network.name,
                "architecture": network.architecture,
                "organs": network.problem or organs(network),
                "origin": network.origin,
                "sha256": network.sha256[:12],
                "MB": f"{network.size / 1e6:.1f}",
                "served": "yes" if network.served else "no",
            }
            for network in networks
        ],
        left=["network", "architecture", "sha256", "served"],
        fold=["organs", "origin"],
    )


@weights.command("rollback")
def rollback(
    model_version: Annotated[
        str, typer.Argument(help="set to serve, or 'embedded'; the one before by default")
    ] = "",
    models: Models = MODELS,
    history: Annotated[
        bool, typer.Option("--history", help="only show what was served when")
    ] = False,
) -> None:
    """Serve networks that were served before; a running server takes them at once.

    Scores that were made under them are valid again, and nothing is deleted: what is rolled
    back from can be served again by its model version.
    """
    from atlas8k.models.store import ModelStore

    store = ModelStore(models)
    if history:
        for entry in store.history():
            typer.echo(f"{entry['when'][:19]}Z  {entry['set']}  {entry['note']}")
        served = store.served()
        typer.echo(f"served now: {served.model_version}")
        return
    before = store.served().model_version
    if model_version:
        now = store.serve(_folder(store, model_version), f"rolled back from {before}")
    else:
        now = store.rollback(f"rolled back from {before}")
    typer.echo(f"{now.model_version} is served, no longer {before}; scores made under it are valid")


def _folder(store: ModelStore, model_version: str) -> str:
    """Find the folder of a set by its name, its model version or the start of one.

    Raises
    ------
    CheckpointError
        None, or several.
    """
    from atlas8k.models.sets import EMBEDDED, SET_FILE, open_set

    names = [EMBEDDED, *sorted(p.parent.name for p in store.root.glob(f"[!.]*/{SET_FILE}"))]
    if model_version in names:
        return model_version
    matches = []
    for name in names:
        try:
            # Under other attention settings a set has another model version than its folder.
            versions = {name, open_set(store.root / name, {}).model_version}
        except CheckpointError:
            continue
        if any(version.startswith(model_version) for version in versions):
            matches.append(name)
    if len(matches) != 1:
        what = "several begin so" if matches else "no such set"
        raise CheckpointError(
            store.root, f"{model_version}: {what}; there are {', '.join(matches or names)}"
        )
    return matches[0]


@weights.command("range")
def range_(
    cases: Annotated[
        Path,
        typer.Argument(help="folder of the CTs that `atlas8k train` made for itself (*_4mm.npz)"),
    ],
    count: Annotated[int, typer.Option(min=20, help="so many of them, evenly chosen")] = 300,
    predicted: Annotated[
        int, typer.Option(min=1, help="so many through the networks, for their agreement")
    ] = 60,
    scans: Annotated[
        int, typer.Option(min=20, help="so many draws of a scanner, for noise and voxels")
    ] = 400,
    seed: Annotated[int, typer.Option(min=0, help="of the first draw")] = 20000,
    models: Models = MODELS,
    network_set: Annotated[str, typer.Option("--set", help="folder of the set")] = "embedded",
) -> None:
    """Measure the synthetic CTs a set of networks was trained on, and store the ranges.

    They are written to trained_range.json beside the networks, and every prediction is
    compared with them. CTs that hold fewer than five organs are left out. The CTs are stored
    at 4 mm, so noise and voxel size are measured on draws of their scanner: noise in a block
    of tissue without texture.
    """
    from tqdm import tqdm

    from atlas8k.content.familiar import RANGE_FILE, trained_ranges
    from atlas8k.core.files import write_json

    files = sorted(cases.glob("*_4mm.npz"))
    if not files:
        raise SettingsError(f"{cases}: no *_4mm.npz in it; name the folder of a training's CTs")
    files = [files[i * len(files) // count] for i in range(min(count, len(files)))]
    folder = models / network_set
    measured = [result for result in map(_measured, tqdm(files, desc="CTs")) if result is not None]
    rows = [features for _, features in measured]
    few = [file for file, _ in measured][:: max(1, len(measured) // predicted)]
    rows += tqdm(_agreements(folder, few), total=len(few), desc="predicted")
    phantoms = round(scans * sum(file.name.startswith("phantom_") for file in files) / len(files))
    rows += [
        _scanned(seed + number, phantom=number < phantoms)
        for number in tqdm(range(scans), desc="scans")
    ]
    made_of = (
        f"{len(measured)} training CTs with {MIN_ORGANS} organs or more, {len(few)} of them "
        f"predicted, and {scans} draws of their scanners from seed {seed}, {phantoms} of them "
        "those of phantoms"
    )
    write_json(folder / RANGE_FILE, trained_ranges(rows, made_of))
    typer.echo(f"{folder / RANGE_FILE} written: {made_of}")


def _read(file: Path) -> tuple[Volume, Labels]:
    import numpy as np

    from atlas8k.core.volume import Grid, Volume

    with np.load(file) as stored:
        label = stored["label"]
        return Volume(stored["ct"], Grid(label.shape, stored["affine"])), label


def _measured(file: Path) -> tuple[Path, Features] | None:
    """Measure a training CT with its true label; ``None`` where it holds few organs."""
    from atlas8k.content.features import measure

    ct, label = _read(file)
    features, _ = measure(ct, label[None], ct.grid)
    if not isinstance(features["organs"], float) or features["organs"] < MIN_ORGANS:
        return None
    native = ("noise_hu", "pixel_mm", "slice_mm")
    return file, {name: value for name, value in features.items() if name not in native}


def _agreements(folder: Path, files: list[Path]) -> Iterator[Features]:
    """Yield the agreement of the networks on each CT."""
    import numpy as np

    from atlas8k.content.features import measure
    from atlas8k.models.light_monai import import_monai_for_prediction

    import_monai_for_prediction()
    from atlas8k.models.predict import Predictor
    from atlas8k.models.sets import open_set

    predictor = Predictor(open_set(folder, {}))
    for file in files:
        ct, _ = _read(file)
        prediction = predictor.predict(ct)
        labels = np.stack([prediction.label(name) for name in (None, *prediction.names)])
        yield {"agreement": measure(ct, labels, prediction.grid)[0]["agreement"]}


def _scanned(seed: int, phantom: bool) -> Features:
    """Measure noise and voxel size of a scan of a wide phantom, or of a painted body."""
    import numpy as np

    from abdomen_phantom import WIDE
    from abdomen_phantom.bodies.draw import BODIES, draw_scan
    from abdomen_phantom.generate import PhantomPainter
    from abdomen_phantom.scanner import add_noise, enhance_edges
    from abdomen_phantom.setting import Dice
    from atlas8k.content.features import noise_hu
    from atlas8k.core.volume import Grid, Volume

    if phantom:
        painter = PhantomPainter(seed, WIDE, coarse=True)
        dice, scan = painter.dice, painter.scan
    else:
        dice = Dice(seed, BODIES)
        scan = draw_scan(dice, np.zeros(3), np.full(3, SLAB_MM), "RAS")
    pixel, thickness = scan.in_plane_mm, scan.thickness_mm
    side = round(SLAB_MM / pixel)
    hu = np.full((SLAB_SLICES, side, side), 60.0, np.float32)
    enhance_edges(hu, scan, pixel)
    add_noise(hu, dice, scan, pixel)
    array = hu.transpose(1, 2, 0)
    grid = Grid((side, side, SLAB_SLICES), np.diag([pixel, pixel, thickness, 1.0]))
    noise = noise_hu(Volume(array, grid))
    return {"noise_hu": noise, "pixel_mm": pixel, "slice_mm": thickness}
