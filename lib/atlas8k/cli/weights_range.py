"""``atlas8k weights range``: record what the CTs are like that networks were trained on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atlas8k.cli.options import MODELS, Models
from atlas8k.cli.weights import weights

if TYPE_CHECKING:
    from atlas8k.content.features import Features
    from atlas8k.phantom.generate import Phantom

COARSE_MM = 4.0
"""All but noise and voxels are measured on CTs made at this: forty times as quick."""
NATIVE = ("noise_hu", "pixel_mm", "slice_mm")


@weights.command("range")
def range_(
    bodies: Annotated[
        Path | None, typer.Option(help="folder of label maps that CTs were painted on")
    ] = None,
    subjects: Annotated[str, typer.Option(help="of these bodies; all by default")] = "",
    painted: Annotated[int, typer.Option(min=0, help="so many CTs painted on bodies")] = 200,
    phantoms: Annotated[int, typer.Option(min=0, help="so many phantoms, setting wide")] = 100,
    native: Annotated[
        int, typer.Option(min=1, help="so many of both at their own spacing, for noise and voxels")
    ] = 40,
    seed: Annotated[int, typer.Option(min=0, help="of the first; others than in training")] = 20000,
    models: Models = MODELS,
    network_set: Annotated[str, typer.Option("--set", help="folder of the set")] = "embedded",
) -> None:
    """Measure synthetic CTs as those a set of networks was trained on, and keep the ranges.

    They are kept as trained_range.json beside the networks; a prediction is compared with
    them. The networks run on every CT: some seconds each.
    """
    from tqdm import tqdm

    from atlas8k.content.familiar import RANGE_FILE, trained_ranges
    from atlas8k.errors import SettingsError
    from atlas8k.models.files import write_json
    from atlas8k.models.sets import open_set

    if painted and bodies is None:
        raise SettingsError("--painted needs --bodies FOLDER; or give --painted 0")
    names = tuple(filter(None, subjects.split(",")))
    made_of = (
        f"{painted} CTs painted on bodies {', '.join(names) or 'of a folder'} and {phantoms} "
        f"phantoms of setting wide, seeds from {seed}; noise and voxels of {native} of them"
    )
    folder = models / network_set
    open_set(folder, {})  # before minutes are spent
    rows: list[Features] = list(
        tqdm(
            _measured(folder, bodies, names, painted, phantoms, native, seed),
            total=painted + phantoms + native,
            desc="CTs",
        )
    )
    write_json(folder / RANGE_FILE, trained_ranges(rows, made_of))
    typer.echo(f"{folder / RANGE_FILE} written")


def _measured(
    folder: Path,
    bodies: Path | None,
    names: tuple[str, ...],
    painted: int,
    phantoms: int,
    native: int,
    seed: int,
) -> Iterator[Features]:
    """Features of CTs at 4 mm without noise and voxels, then these of some at their own grid."""
    import numpy as np

    from atlas8k.content.noise import noise_hu
    from atlas8k.models.familiar import features_of
    from atlas8k.models.imports import import_monai_for_prediction

    import_monai_for_prediction()
    from atlas8k.models.predict import Predictor
    from atlas8k.models.sets import open_set
    from atlas8k.phantom import WIDE, generate
    from atlas8k.phantom.bodies import paint_body, read_bodies

    predictor = Predictor(open_set(folder, {}), grid_mm=COARSE_MM)
    maps = read_bodies(bodies, names) if painted and bodies is not None else []

    def make(number: int, spacing: float | None) -> Phantom:
        """Painted CTs and phantoms mixed, as they are shared out."""
        if number * painted // (painted + phantoms) != (number + 1) * painted // (
            painted + phantoms
        ):
            return paint_body(maps, seed + number, grid_spacing_mm=spacing)
        return generate(seed + number, WIDE, grid_spacing_mm=spacing)

    for number in range(painted + phantoms):
        ct = make(number, COARSE_MM).ct
        said = predictor.predict(ct)
        labels = np.stack([said.label(name) for name in (None, *said.names)])
        features, _ = features_of(ct, labels, said.grid)
        yield {name: None if name in NATIVE else value for name, value in features.items()}
    for number in range(native):
        ct = make(number, None).ct
        spacing = ct.grid.canonical().spacing
        found: dict[str, Any] = {
            "noise_hu": noise_hu(ct), "pixel_mm": max(spacing[:2]), "slice_mm": spacing[2]
        }  # fmt: skip
        yield found
