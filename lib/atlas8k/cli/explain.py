"""``atlas8k explain``: explain why a volume ranks where it does, and where to look in it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atlas8k.cli.open_studies import label_service_of, ledger_of
from atlas8k.cli.options import MODELS, Conf, LedgerFile, Models, Studies, settings_of
from atlas8k.cli.rank import newest
from atlas8k.cli.terminal_tables import print_table, terminal
from atlas8k.core.errors import (
    AttentionError,
    LedgerError,
    SettingsError,
    UnreadableVolumeError,
)
from atlas8k.core.rankings import RANKINGS

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from atlas8k.attention.regions import Region
    from atlas8k.core.volume import Grid
    from atlas8k.services.prediction.answers import Answers
    from atlas8k.services.prediction.engine import Engine
    from atlas8k.store import Ledger

    Mask = npt.NDArray[np.bool_]
    Bytes = npt.NDArray[np.uint8]

PICTURED = 3
FIGURES = ("attention", "inconsistency", "uncertainty", "overlap", "salient")
CRITERIA = ("inconsistency", "uncertainty", "overlap")
"""Terms of Eq. 4."""
HEAT_STEP = 1 / 128
"""Value of Eq. 4 that a step of a byte heat map stands for."""


def explain(
    case: Annotated[str, typer.Argument(help="id of the volume, as `atlas8k rank` lists it")],
    studies: Studies = ".",
    path: LedgerFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON in place of the tables")] = False,
    preview: Annotated[
        Path | None, typer.Option(help="picture of the worst regions (.png, .svg, .pdf)")
    ] = None,
    regions: Annotated[int, typer.Option(min=1, max=10, help="so many in the picture")] = PICTURED,
    heat: Annotated[
        Path | None, typer.Option(help="attention map (Eq. 4) on the CT's grid (.nii.gz)")
    ] = None,
    organ: Annotated[
        str | None, typer.Option(help="heat of this organ; default: the sum of all organs")
    ] = None,
    criterion: Annotated[
        str | None,
        typer.Option(help="heat of one term: inconsistency, uncertainty, overlap; default: all"),
    ] = None,
    boxes: Annotated[
        Path | None, typer.Option(help="regions as boxes for 3D Slicer (.mrk.json)")
    ] = None,
    models: Models = MODELS,
    conf: Conf = None,
) -> None:
    """Explain why a volume ranks where it does, and where to look in it.

    The tables come from the ledger at once. Picture, heat and boxes come from cached
    predictions; where these have been cleared, the networks run again.
    """
    from rich.console import Console

    from atlas8k.attention.markups import write_markups

    for file, endings in (
        (preview, (".png", ".svg", ".pdf")),
        (heat, (".nii.gz", ".nii")),
        (boxes, (".json",)),
    ):
        if file is not None and not file.name.endswith(endings):
            raise UnreadableVolumeError(file, f"the name must end in {' or '.join(endings)}")
    opened = None
    with ledger_of(studies, path) as book:
        _check_heat(organ, criterion, heat)  # the campaign says which organs there are
        record = _record(book, case)
        if "organs" not in record or preview or heat or boxes:
            with Console(stderr=True).status(f"{case}: reading"):
                opened = _open(book, case, studies, models, conf)
    if opened is not None and "organs" not in record:
        record |= _explanation(opened, record["model_version"])
    if as_json:
        typer.echo(json.dumps(record, indent=1))
    else:
        _print(record)
    if opened is None:
        return
    with Console(stderr=True).status(f"{case}: writing"):
        if preview is not None:
            _picture(preview, opened, case, record, regions)
        if heat is not None:
            _heat(heat, opened, organ, criterion)
        if boxes is not None:
            write_markups(boxes, opened.answers.regions_on(opened.grid), opened.grid)
    for file in (preview, heat, boxes):
        if file is not None:
            typer.echo(f"{file} written", err=True)


def _check_heat(organ: str | None, criterion: str | None, heat: Path | None) -> None:
    from atlas8k.core.structures import ORGAN_NAMES

    if organ is not None and organ not in ORGAN_NAMES:
        raise SettingsError(f"--organ {organ}: there are {', '.join(ORGAN_NAMES)}")
    if organ is not None and heat is None:
        raise SettingsError("--organ chooses the organ of --heat FILE, which is not given")
    if criterion is not None and criterion not in CRITERIA:
        raise SettingsError(f"--criterion {criterion}: there are {', '.join(CRITERIA)}")
    if criterion is not None and heat is None:
        raise SettingsError("--criterion chooses the term of --heat FILE, which is not given")


def _record(book: Ledger, case: str) -> dict[str, Any]:
    """Read a volume's explanation and its place in every list from the ledger.

    Raises
    ------
    LedgerError
        The volume is unknown or has no score.
    """
    status = book.status(case)
    model_version = newest(book)
    measured = book.measured_rankings(model_version)
    lists = {ranking: book.ranking(model_version, by=ranking) for ranking in measured}
    lines = {
        name: next((line for line in ranked if line.volume == case), None)
        for name, ranked in lists.items()
    }
    if lines["eq4"] is None:
        reason = book.failures(model_version).get(case)
        why = f"it cannot be scored: {reason}" if reason else "it has no score; run `atlas8k score`"
        raise LedgerError(f"{case}: under {model_version} {why}")
    # None where an earlier release has scored it, which did not record where to look.
    from atlas8k.services.calibrations import Calibrations

    explanation = Calibrations(book).explanation(case, model_version) or {}
    return {
        "volume": case,
        "model_version": model_version,
        "status": status,
        "ranked_by": book.ranked_by(),
        "places": {
            name: {"rank": line.rank, "of": len(lists[name]), "score": round(line.score, 4)}
            for name, line in lines.items()
            if line is not None
        },
        # Scored by a release that did not know these rankings: score again for them.
        "not_measured": [name for name in RANKINGS if name not in measured],
        **{key: value for key, value in explanation.items() if key != "name"},
    }


def _explanation(opened: _Opened, model_version: str) -> dict[str, Any]:
    """Return the explanation that scoring records, made from cached predictions.

    Raises
    ------
    LedgerError
        Other networks or settings are served than the volume was scored under.
    """
    if opened.model_version != model_version:
        raise LedgerError(
            f"{opened.case}: scored under {model_version} by an earlier release, which did "
            f"not record where to look; {opened.model_version} is served now, score the folder "
            "under that"
        )
    explanation = opened.answers.noted(opened.grid, opened.case)
    return {key: value for key, value in explanation.items() if key != "name"}


def _print(record: dict[str, Any]) -> None:
    """Print a line on the volume's rank, then its organs, then its regions."""
    from atlas8k.attention.explain import Place
    from atlas8k.attention.quality_model import UNKNOWN, in_words
    from atlas8k.attention.recalibration import EMBEDDED

    console = terminal()
    place = record["places"][record["ranked_by"]]
    console.print(
        f"[bold]{record['volume']}[/bold]: rank {place['rank']} of {place['of']} by "
        f"{record['ranked_by']}, attention {record['attention_ml']:.1f} ml, {record['status']}; "
        f"networks {record['model_version']}"
    )
    others = (
        f"{item['rank']} by {name}"
        for name, item in record["places"].items()
        if name != record["ranked_by"]
    )
    console.print(f"rank {', '.join(others)}")
    if record["not_measured"]:
        console.print(f"score again for {', '.join(record['not_measured'])}")
    quality = record.get("quality") or {}
    print_table(
        [
            {"organ": row["organ"]}
            | {name: f"{row[f'{name}_ml']:.2f}" for name in FIGURES}
            | {"regions": row["regions"]}
            | {"predicted DSC": in_words(quality.get(row["organ"])) if quality else "unknown"}
            for row in record["organs"]
        ],
        "Organs, most attention first (ml)",
        left=["organ"],
        console=console,
    )
    basis = record.get("quality_basis") or (EMBEDDED.text if quality else UNKNOWN)
    console.print(f"Predicted DSC: {basis}.", soft_wrap=True)
    if not record["regions"]:
        console.print("No region stands out: the attention is thin outlines and small spots.")
        return
    rows = []
    for rank, row in enumerate(record["regions"], start=1):
        place = Place.from_dict(row.get("place"))
        rows.append(
            {
                "": rank,
                "organ": " + ".join([row["organ"], *row.get("also", ())]),
                "ml": f"{row['ml']:.1f}",
                "expected wrong": f"{row['wrong_ml']:.1f}" if row.get("wrong_ml") else "",
                "why": row.get("why", ""),
                f"{record['plane']} slice in OHIF": f"{place.ohif_slice} of {place.slices}"
                if place
                else "score again",
                "3D Slicer, mm (RAS)": "R {:.1f}, A {:.1f}, S {:.1f}".format(*place.ras_mm)
                if place
                else "",
                f"file index, axis {record['slice_axis']}, from 0": row["slice"],
            }
        )
    print_table(
        rows,
        f"Regions to look at ({len(rows)} of {record['regions_in_all']})",
        left=["organ", "why", "3D Slicer, mm (RAS)"],
        key="organ",
        console=console,
    )


def _expected(region: Region) -> str:
    """Say what is expected of a region, where it is known."""
    if not region.wrong_ml:
        return f" (attention {region.attention_ml:.1f} ml)"
    return f", {region.wrong_ml:.1f} ml of it likely wrong: {region.why}"


@dataclass(frozen=True, eq=False)
class _Opened:
    """A volume's file with the networks' predictions of it."""

    engine: Engine
    file: Path
    case: str
    grid: Grid
    answers: Answers
    model_version: str


def _open(book: Ledger, case: str, studies: str, models: Path, conf: list[str] | None) -> _Opened:
    from atlas8k.core.settings import Settings
    from atlas8k.models.store import ModelStore
    from atlas8k.services.device_lock import DeviceLock
    from atlas8k.services.prediction.cache import PredictionCache
    from atlas8k.services.prediction.engine import Engine, attention_settings, device

    settings = Settings.from_conf(settings_of(conf))
    file = _file(book, case, studies)
    state = book.path.parent
    engine = Engine(
        settings,
        ModelStore(settings.models or models, attention_settings(settings)),
        DeviceLock(state / "device", device(settings)),
        PredictionCache(state / "cache", settings.cache_gb),
    )
    grid, answers, model_version = engine.answers(file, volume=case)
    return _Opened(engine, file, case, grid, answers, model_version)


def _file(book: Ledger, case: str, studies: str) -> Path:
    """Return the CT's file; fetch that of an archive where it is not cached.

    Raises
    ------
    UnreadableVolumeError
        It is gone.
    """
    from atlas8k.services.studies.names import IMAGE_SUFFIXES, check_id
    from atlas8k.services.studies.scan import probe
    from atlas8k.store import is_url

    if is_url(studies):
        with label_service_of(studies, book.path) as label_service:
            return label_service.folder.path / label_service.folder.known_image(case).path
    image = probe(Path(studies), check_id(case), IMAGE_SUFFIXES)
    if image is None:
        raise UnreadableVolumeError(
            Path(studies) / case, "its CT is not in the studies folder any more"
        )
    return Path(studies) / image.path


def _heat_maps(opened: _Opened) -> tuple[Bytes, Grid]:
    """Return Eq. 4 ``(organs, X, Y, Z)`` uint8 in steps of 1/128, and its grid."""
    from atlas8k.attention import salient_regions

    codes, grid, _ = opened.engine.probabilities(opened.file, volume=opened.case)
    settings = opened.engine.salient
    organs = opened.answers.sizes.organs
    salient = salient_regions(codes, grid, settings, organs=organs, name=opened.case, heat=True)
    assert salient.heat is not None  # asked for above
    return salient.heat, grid


def _criterion_maps(opened: _Opened, criterion: str) -> tuple[npt.NDArray[np.float32], Grid]:
    """Return one term of Eq. 4, ``(organs, X, Y, Z)``, and its grid; a slice at a time."""
    import numpy as np

    from atlas8k.attention import equations
    from atlas8k.attention.probabilities import LEVELS
    from atlas8k.core.structures import containers

    codes, grid, _ = opened.engine.probabilities(opened.file, volume=opened.case)
    term: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]] = {
        "inconsistency": equations.inconsistency,
        "uncertainty": equations.uncertainty,
        "overlap": lambda probs: equations.overlap(
            probs, opened.engine.salient.overlap, containers(opened.answers.sizes.organs)
        ),
    }[criterion]
    maps = np.empty(codes.codes.shape[1:], np.float32)
    for k in range(maps.shape[-1]):
        maps[..., k] = term(LEVELS[codes.codes[..., k]])
    return maps, grid


def _heat(target: Path, opened: _Opened, organ: str | None, criterion: str | None) -> None:
    import numpy as np

    from atlas8k.core.volume import resample, write_nifti

    organs = opened.answers.sizes.organs
    if organ is not None and organ not in organs:
        raise AttentionError(opened.case, f"no network knows {organ}: there is nothing to show")
    maps, grid = _criterion_maps(opened, criterion) if criterion else _heat_maps(opened)
    chosen = maps if organ is None else maps[[organs.index(organ)]]
    step = np.float32(1 if criterion else HEAT_STEP)
    values = chosen.sum(axis=0, dtype=np.float32) * step
    write_nifti(target, resample(values, grid, opened.grid, linear=True), opened.grid)


def _picture(target: Path, opened: _Opened, case: str, record: dict[str, Any], most: int) -> None:
    import numpy as np

    from atlas8k.attention.explain import place_of_region
    from atlas8k.core.volume import Volume, read_ct
    from atlas8k.reports.preview import View, draw_regions

    answers = opened.answers
    maps, grid = _heat_maps(opened)
    heat = maps.max(axis=0).astype(np.float32) * np.float32(HEAT_STEP)
    views = []
    axis = _along(opened.grid, answers.grid)
    regions_on_ct = answers.regions_on(opened.grid)
    for rank, (region, on_ct) in enumerate(
        zip(answers.regions[:most], regions_on_ct, strict=False), start=1
    ):
        mask = answers.voxels_of(region)
        views.append(
            View(
                _point_in_slice(mask, answers.grid, axis, region.largest_slice[axis]),
                f"{rank}  {' + '.join(region.organs)}, {region.ml:.1f} ml in doubt"
                f"{_expected(region)}\n"
                f"{place_of_region(on_ct, opened.grid, record['slice_axis']).text}",
                Volume(mask, answers.grid),
            )
        )
    if not views:  # the picture still shows the case, through its middle
        empty = np.zeros(answers.grid.shape, dtype=bool)
        middle = answers.grid.affine[:3, :3] @ (np.array(answers.grid.shape) / 2)
        centre = tuple(map(float, middle + answers.grid.affine[:3, 3]))
        views = [View(centre, "no region stands out", Volume(empty, answers.grid))]
    place = record["places"][record["ranked_by"]]
    draw_regions(
        target,
        read_ct(opened.file),
        Volume(answers.labels[0], answers.grid),
        Volume(heat, grid),
        views,
        title=f"{case}: rank {place['rank']} of {place['of']}, "
        f"attention {record['attention_ml']:.1f} ml",
    )


def _along(ct_grid: Grid, grid: Grid) -> int:
    """Return the axis of the working grid along which the CT's slices are stacked."""
    import numpy as np

    from atlas8k.attention.explain import slice_axis

    directions = np.linalg.solve(grid.affine[:3, :3], ct_grid.affine[:3, slice_axis(ct_grid)])
    return int(np.argmax(np.abs(directions * grid.spacing)))


def _point_in_slice(mask: Mask, grid: Grid, axis: int, number: int) -> tuple[float, ...]:
    """Return RAS+ mm of a point of the region, in the slice that shows most of it."""
    import numpy as np

    voxels = np.argwhere(mask)
    voxels = voxels[voxels[:, axis] == number]
    middle = voxels[np.argmin(((voxels - voxels.mean(axis=0)) ** 2).sum(axis=1))]
    return tuple(map(float, grid.affine[:3, :3] @ middle + grid.affine[:3, 3]))
