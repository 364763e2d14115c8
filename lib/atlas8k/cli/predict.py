"""``atlas8k predict``: one CT to a label map, a picture and figures, without a server."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from atlas8k.models.predict import Prediction
    from atlas8k.volume import Volume

MODELS = Path(__file__).resolve().parents[3] / "apps" / "atlas8k" / "model"
"""The app's own folder of checkpoints, in a clone of the project."""


def predict(
    ct: Annotated[Path, typer.Argument(help="CT volume (.nii, .nii.gz)")],
    output: Annotated[Path, typer.Argument(help="label map to write (.nii.gz)")],
    preview: Annotated[
        Path | None, typer.Option(help="picture of three planes with organs and attention")
    ] = None,
    statistics: Annotated[
        Path | None, typer.Option(help="JSON: volume, mean HU and attention of every organ")
    ] = None,
    models: Annotated[Path, typer.Option(help="folder of checkpoints")] = MODELS,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1")] = "cpu",
) -> None:
    """Segment nine organs in a CT and show where the networks are likely wrong."""
    from rich.console import Console

    from atlas8k.attention import salient_regions
    from atlas8k.models.predict import Predictor
    from atlas8k.models.store import ModelStore
    from atlas8k.preview import draw_planes
    from atlas8k.volume import read_ct, resample, write_nifti

    start = time.monotonic()
    console = Console(stderr=True)
    volume = read_ct(ct)
    with console.status(f"{ct.name}: predicting"):
        served = ModelStore(models).served()
        prediction = Predictor(served, device=device).predict(volume)
        label = prediction.label_on(volume.grid)
        salient = salient_regions(prediction.probs, prediction.grid, name=ct.name)
    write_nifti(output, label, volume.grid)
    report = {
        "ct": ct.name,
        "networks": list(prediction.names),
        "left_out": dict(prediction.failures),
        "model_signature": served.signature,
        "seconds": round(time.monotonic() - start, 2),
        "attention_total_ml": round(salient.sizes.total_ml, 3),
        "organs": organ_statistics(volume, label, salient.sizes.organ_ml),
        "regions": [
            region.on(prediction.grid, volume.grid).as_dict() for region in salient.regions
        ],
    }
    if statistics is not None:
        statistics.write_text(json.dumps(report, indent=2) + "\n")
    if preview is not None:
        shown = resample(salient.label(), prediction.grid, volume.grid, linear=False)
        draw_planes(preview, volume, label, shown > 0, title=ct.name)
    _table(console, prediction, report)


def organ_statistics(
    ct: Volume, label: npt.NDArray[np.uint8], attention_ml: dict[str, float]
) -> dict[str, dict[str, float | None]]:
    """Volume in ml, mean HU and attention size in ml of every organ.

    Parameters
    ----------
    ct
        ``(X, Y, Z)`` HU.
    label
        ``(X, Y, Z)`` uint8 on the CT's grid.
    """
    import numpy as np

    from atlas8k.organs import N_ORGANS, ORGANS

    voxels = np.bincount(label.ravel(), minlength=N_ORGANS + 1)
    hu = np.bincount(label.ravel(), weights=ct.array.ravel(), minlength=N_ORGANS + 1)
    return {
        organ.name: {
            "ml": round(float(voxels[organ.id]) * ct.grid.voxel_ml, 2),
            "mean_hu": round(float(hu[organ.id] / voxels[organ.id]), 1)
            if voxels[organ.id]
            else None,
            "attention_ml": round(attention_ml[organ.name], 3),
        }
        for organ in ORGANS
    }


def _table(console: Any, prediction: Prediction, report: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(title=f"{report['ct']}: {', '.join(prediction.names)}, {report['seconds']} s")
    table.add_column("organ")
    for name in ("volume, ml", "mean HU", "attention, ml"):
        table.add_column(name, justify="right")
    for organ, row in report["organs"].items():
        mean = "" if row["mean_hu"] is None else f"{row['mean_hu']:.0f}"
        table.add_row(organ, f"{row['ml']:.1f}", mean, f"{row['attention_ml']:.2f}")
    console.print(table)
    for name, reason in prediction.failures.items():
        console.print(f"{name} was left out: {reason}", style="yellow")
