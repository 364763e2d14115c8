"""``atlas8k predict``: segment one CT into a label map, a picture and figures, without a server."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from atlas8k.cli.options import MODELS, Device, Models
from atlas8k.cli.terminal_tables import decimals, print_table, terminal
from atlas8k.core.errors import (
    NoAbdomenError,
    NotHounsfieldError,
    SettingsError,
    UnreadableVolumeError,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from rich.console import Console

    from atlas8k.core.remarks import Remark
    from atlas8k.core.volume import Volume
    from atlas8k.models.predict import Prediction
    from atlas8k.services.prediction.expected import Expected


def predict(
    ct: Annotated[
        Path,
        typer.Argument(help="CT volume (.nii, .nii.gz), or a folder or file of a DICOM series"),
    ],
    output: Annotated[
        Path | None,
        typer.Argument(
            help="label map to write (.nii.gz), on the CT's grid; else <CT>_organs.nii.gz here",
            show_default=False,
        ),
    ] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="picture of three planes beside the label map, .png")
    ] = False,
    statistics: Annotated[
        bool, typer.Option("--statistics", help="figures of organs and run beside it, .json")
    ] = False,
    series: Annotated[
        str | None, typer.Option(help="SeriesInstanceUID, where the folder holds several volumes")
    ] = None,
    orientation: Annotated[
        str | None,
        typer.Option(
            help="direction of a NIfTI file's axes where its header lacks it, such as RAS or LPS; "
            "sform or qform where the two differ",
            show_default=False,
        ),
    ] = None,
    models: Models = MODELS,
    device: Device = "cpu",
    weights: Annotated[
        str, typer.Option(help="what networks count: unet=1,swin_unetr=0.5,nnunet:pancreas=2")
    ] = "",
    largest_component: Annotated[
        bool, typer.Option(help="keep the largest piece of every organ")
    ] = True,
    fill_holes: Annotated[bool, typer.Option(help="fill what an organ encloses")] = False,
    mirror: Annotated[
        bool,
        typer.Option("--mirror", help="test-time augmentation along the axes each was trained so"),
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="predict although it is no CT in HU or shows no abdomen"),
    ] = False,
) -> None:
    """Segment nine organs in a CT and show where the networks are likely wrong.

    Values that are no HU, label maps and CTs that show no abdomen are refused: every organ
    predicted in them would be invented. A line below the table tells whether the CT is like
    those that the networks were trained on.
    """
    if not ct.exists():
        _missing(ct)
    from atlas8k.models.light_monai import import_monai_for_prediction

    import_monai_for_prediction()
    from atlas8k import __version__
    from atlas8k.attention import SalientSettings
    from atlas8k.attention.recalibration import UNCALIBRATED
    from atlas8k.content import inspect_content
    from atlas8k.core.volume import write_nifti
    from atlas8k.core.weighting import Weights
    from atlas8k.models.ensemble import EnsembleSettings
    from atlas8k.models.predict import Predictor
    from atlas8k.models.store import ModelStore
    from atlas8k.services.prediction.answers import Answers

    start = time.monotonic()
    console = terminal(stderr=True)
    ensemble = EnsembleSettings(largest_component, fill_holes, Weights.parse(weights))
    settings = ensemble.as_json() | ({"mirror": True} if mirror else {})
    volume, source, remarks = read_input(ct, series, orientation)
    remarks += inspect_content(volume)
    print_remarks(console, source["ct"], remarks, force=force)
    output = output or Path(f"{_stem(source['ct'])}_organs.nii.gz")
    written = {
        "label": output,
        "preview": output.with_name(_stem(output.name) + ".png") if preview else None,
        "statistics": output.with_name(_stem(output.name) + ".json") if statistics else None,
    }
    with console.status(f"{source['ct']}: predicting"):
        served = ModelStore(models, settings).served()
        ensemble.weights.check(served.checkpoints)
        predictor = Predictor(
            served, device=device, ensemble=ensemble, mirror_axes="trained" if mirror else ()
        )
        prediction = predictor.predict(volume)
        answers = Answers.of(prediction, SalientSettings(), source["ct"], volume, served)
        label, likeness = answers.label_on(volume.grid), answers.familiar
    if likeness["invented"] and not force:
        raise NoAbdomenError(
            source["ct"],
            f"no abdomen found by the networks: {likeness['invented']}. "
            "With --force it is predicted all the same.",
        )
    write_nifti(output, label, volume.grid)
    report = {
        **source,
        "remarks": [remark.as_dict() for remark in remarks],
        "familiar": likeness,
        "version": __version__,
        "networks": list(prediction.names),
        "left_out": dict(prediction.failures),
        "model_version": served.model_version,
        "settings": settings,
        "device": device,
        "grid": {
            "shape": list(volume.grid.shape),
            "spacing_mm": [round(mm, 6) for mm in volume.grid.spacing],
            "orientation": volume.grid.orientation,
        },
        "files": {what: path.name for what, path in written.items() if path is not None},
        "seconds": round(time.monotonic() - start, 2),
        "attention_total_ml": round(answers.sizes.total_ml, 3),
        "organs": organ_statistics(volume, label, answers.sizes.attention_ml, answers.expected),
        "quality_basis": answers.unknown or UNCALIBRATED,
        "regions": [region.as_dict() for region in answers.regions_on(volume.grid)],
    }
    if written["preview"] is not None:
        from atlas8k.reports.preview import draw_planes

        regions_label = answers.attention_on(volume.grid)
        draw_planes(written["preview"], volume, label, regions_label > 0, title=source["ct"])
    if written["statistics"] is not None:
        written["statistics"].write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    _table(console, prediction, report)
    _print_likeness(console, likeness)
    for path in filter(None, written.values()):
        console.print(f"{path} written", markup=False, soft_wrap=True)


def _missing(ct: Path) -> NoReturn:
    """Raise for a CT that does not exist, before anything slow is imported."""
    if str(ct).startswith(("http:/", "https:/")):
        raise SettingsError(
            f"{ct}: is on a server; download its files, or `atlas8k score` the archive"
        )
    raise UnreadableVolumeError(ct, "no such file or folder")


def read_input(
    path: Path, series: str | None = None, orientation: str | None = None
) -> tuple[Volume, dict[str, str], tuple[Remark, ...]]:
    """Read a CT from a NIfTI file, or from a folder or file of a DICOM series.

    Parameters
    ----------
    series
        SeriesInstanceUID of the series to read, where there are several.
    orientation
        Orientation stated for a NIfTI file, see :func:`~atlas8k.core.nifti_geometry.check_stated`.

    Returns
    -------
    volume, source, remarks
        ``(X, Y, Z)`` float32 HU on the CT's own grid; its entries of a report: ``ct``, of a
        DICOM series also ``series_uid`` and ``study_uid``; remarks about its header.

    Raises
    ------
    VolumeError
        As :func:`~atlas8k.core.volume.read_ct` and :func:`~atlas8k.formats.dicom.read_volume`.
    SettingsError
        A series is named and `path` is no DICOM; an orientation is stated that is none, or
        of DICOM, which always says its own.
    """
    from atlas8k.core.nifti_geometry import check_stated
    from atlas8k.core.volume import read_ct, read_geometry
    from atlas8k.formats.dicom import (
        choose,
        inspect,
        is_dicom,
        other_series,
        read_headers,
        read_series,
    )

    if orientation is not None:
        try:
            orientation = check_stated(orientation)
        except ValueError as err:
            raise SettingsError(f"--orientation: {err}") from err
    if not is_dicom(path):
        if series is not None:
            raise SettingsError(f"--series {series}: {path} is no folder or file of DICOM")
        volume = read_ct(path, stated=orientation)
        return volume, {"ct": path.name}, read_geometry(path, stated=orientation).remarks
    if orientation is not None:
        raise SettingsError(f"--orientation {orientation}: {path} is DICOM, which says its own")
    all_series = inspect(read_headers(path))
    chosen = choose(all_series, path, series)
    source = {
        "ct": path.resolve().name,
        "series_uid": chosen.uid,
        "study_uid": chosen.study_uid,
    }
    return read_series(chosen), source, other_series(all_series)


def print_remarks(console: Console, name: str, remarks: Sequence[Remark], *, force: bool) -> None:
    """Print the remarks about a CT, or refuse it, before the networks run.

    Raises
    ------
    NotHounsfieldError
        Its values are no HU, it is a label map or damaged, and `force` is not given.
    NoAbdomenError
        It shows no abdomen, and `force` is not given.
    """
    from atlas8k.content import DAMAGED, LABEL_MAP, NO_ABDOMEN, NOT_HU

    for remark in remarks:
        if remark.kind in (LABEL_MAP, NOT_HU, DAMAGED) and not force:
            raise NotHounsfieldError(name, f"{remark.text} With --force it is predicted as it is.")
        if remark.kind == NO_ABDOMEN and not force:
            raise NoAbdomenError(name, f"{remark.text} With --force it is predicted all the same.")
        style = None if remark.level == "note" else "bold yellow"
        console.print(f"{name}: {remark.text}", style=style, markup=False, soft_wrap=True)


def _print_likeness(console: Console, likeness: Mapping[str, Any]) -> None:
    """Print whether the CT is like the training CTs, and in which features."""
    from atlas8k.content.familiar import line_text

    style = "bold yellow" if likeness["like"] is False else None
    console.print(likeness["text"], style=style, markup=False, soft_wrap=True)
    details = "; ".join(
        line_text(line) for line in likeness["features"] if line["like"] is not False
    )
    console.print(f"  {details}", markup=False, soft_wrap=True, highlight=False)


def _stem(name: str) -> str:
    """Return a volume's file name without its ending."""
    from atlas8k.core.volume import NIFTI_SUFFIXES

    end = next((end for end in NIFTI_SUFFIXES if name.lower().endswith(end)), "")
    return name[: len(name) - len(end)]


def organ_statistics(
    ct: Volume,
    label: npt.NDArray[np.uint8],
    attention_ml: dict[str, float],
    expected: Expected | None = None,
) -> dict[str, dict[str, Any]]:
    """Return volume in ml, mean HU, attention size in ml and predicted quality of every organ.

    Parameters
    ----------
    ct
        ``(X, Y, Z)`` HU.
    label
        ``(X, Y, Z)`` uint8 on the CT's grid.
    """
    import numpy as np

    from atlas8k.core.structures import ORGANS

    quality = expected.as_dict() if expected else {}
    voxels, hu = np.zeros((2, len(ORGANS) + 1))
    for k in range(label.shape[2]):  # of all at once, numpy makes float64 and int64 copies
        organs = label[..., k] > 0
        values = label[..., k][organs]
        voxels += np.bincount(values, minlength=len(ORGANS) + 1)
        hu += np.bincount(values, weights=ct.array[..., k][organs], minlength=len(ORGANS) + 1)
    return {
        organ.name: {
            "ml": round(float(n) * ct.grid.voxel_ml, 2),
            "mean_hu": round(float(total / n), 1) if n else None,
            "attention_ml": round(attention_ml[organ.name], 3),
            "quality": quality.get(organ.name),
        }
        for organ, n, total in zip(ORGANS, voxels[1:], hu[1:], strict=True)
    }


def _table(console: Any, prediction: Prediction, report: dict[str, Any]) -> None:
    from atlas8k.attention.quality_model import in_words

    known = any(row["quality"] for row in report["organs"].values())
    print_table(
        [
            {
                "organ": organ,
                "volume, ml": f"{row['ml']:.1f}",
                "mean HU": decimals(row["mean_hu"], 0),
                "attention, ml": f"{row['attention_ml']:.2f}",
                "predicted DSC": in_words(row["quality"]) if known else "unknown",
            }
            for organ, row in report["organs"].items()
        ],
        f"{report['ct']}: {', '.join(prediction.names)}, {report['seconds']} s",
        left=["organ"],
        console=console,
    )
    console.print(f"Predicted DSC: {report['quality_basis']}.", soft_wrap=True)
    for name, reason in prediction.failures.items():
        console.print(f"{name} was left out: {reason}", style="yellow")
