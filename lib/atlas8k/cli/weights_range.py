"""``atlas8k weights range``: record what the CTs are like that networks were trained on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atlas8k.cli.options import MODELS, Models
from atlas8k.cli.weights import weights

if TYPE_CHECKING:
    from atlas8k.content.features import Features, Labels
    from atlas8k.volume import Volume

MIN_ORGANS = 5
"""Training CTs with fewer are there to show what is no organ: no example of an abdomen."""
SLAB_MM, SLAB_SLICES = 160.0, 12


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
    """Measure the synthetic CTs a set of networks was trained on, and keep the ranges.

    They are kept as trained_range.json beside the networks, and every prediction is compared
    with them. CTs that hold fewer than five organs are left out. They are kept at 4 mm, so
    that noise and voxels come from the scanner they were drawn with: noise in a block of
    tissue without texture.
    """
    from tqdm import tqdm

    from atlas8k.content.familiar import RANGE_FILE, trained_ranges
    from atlas8k.errors import SettingsError
    from atlas8k.models.files import write_json

    files = sorted(cases.glob("*_4mm.npz"))
    if not files:
        raise SettingsError(f"{cases}: no *_4mm.npz in it; name the folder of a training's CTs")
    files = [files[i * len(files) // count] for i in range(min(count, len(files)))]
    folder = models / network_set
    made = [one for one in map(_measured, tqdm(files, desc="CTs")) if one is not None]
    rows = [features for _, features in made]
    few = [file for file, _ in made][:: max(1, len(made) // predicted)]
    rows += tqdm(_agreements(folder, few), total=len(few), desc="predicted")
    rows += [_scanned(seed + number) for number in tqdm(range(scans), desc="scans")]
    made_of = (
        f"{len(made)} training CTs with {MIN_ORGANS} organs or more, {len(few)} of them predicted, "
        f"and {scans} draws of their scanner from seed {seed}"
    )
    write_json(folder / RANGE_FILE, trained_ranges(rows, made_of))
    typer.echo(f"{folder / RANGE_FILE} written: {made_of}")


def _read(file: Path) -> tuple[Volume, Labels]:
    import numpy as np

    from atlas8k.volume import Grid, Volume

    with np.load(file) as stored:
        label = stored["label"]
        return Volume(stored["ct"], Grid(label.shape, stored["affine"])), label


def _measured(file: Path) -> tuple[Path, Features] | None:
    """A training CT's features with its true label; ``None`` where it holds few organs."""
    from atlas8k.content.features import measure

    ct, label = _read(file)
    features, _ = measure(ct, label[None], ct.grid)
    if not isinstance(features["organs"], float) or features["organs"] < MIN_ORGANS:
        return None
    native = ("noise_hu", "pixel_mm", "slice_mm")
    return file, {name: value for name, value in features.items() if name not in native}


def _agreements(folder: Path, files: list[Path]) -> Iterator[Features]:
    """How far the networks agree on each."""
    import numpy as np

    from atlas8k.content.features import measure
    from atlas8k.models.imports import import_monai_for_prediction

    import_monai_for_prediction()
    from atlas8k.models.predict import Predictor
    from atlas8k.models.sets import open_set

    predictor = Predictor(open_set(folder, {}))
    for file in files:
        ct, _ = _read(file)
        said = predictor.predict(ct)
        labels = np.stack([said.label(name) for name in (None, *said.names)])
        yield {"agreement": measure(ct, labels, said.grid)[0]["agreement"]}


def _scanned(seed: int) -> Features:
    """Noise and voxel size of a scan, as :func:`~atlas8k.phantom.bodies.paint_body` draws it."""
    import numpy as np

    from atlas8k.content.features import noise_hu
    from atlas8k.phantom.bodies.draw import BODIES, draw_scan
    from atlas8k.phantom.scanner import add_noise, enhance_edges
    from atlas8k.phantom.setting import Dice
    from atlas8k.volume import Grid, Volume

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
