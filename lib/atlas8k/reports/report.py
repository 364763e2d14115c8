"""Write the report: one HTML page that holds everything, light or dark as the reader's screen.

Box plots are inline SVG in the page's text colour; cases are pictures of three planes, where
the CTs are at hand.
"""

from __future__ import annotations

import base64
import io
import logging
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cbook import boxplot_stats
from matplotlib.figure import Figure

from atlas8k import __version__
from atlas8k.core.errors import Atlas8kError
from atlas8k.core.volume import Volume, read_ct, resample, to_canonical
from atlas8k.reports.compare import Comparison, comparison_tables
from atlas8k.reports.folders import find_ct, find_labels, read_case
from atlas8k.reports.groups import Grouping
from atlas8k.reports.preview import best_point, draw_planes
from atlas8k.reports.results import write_text
from atlas8k.reports.statistics import Floats
from atlas8k.reports.svg import INK, STYLE, Drawing, boxes, svg
from atlas8k.reports.tables import Table

log = logging.getLogger(__name__)

MOST_PANELS = 9
"""Networks shown by group; the best ranked ones where there are more."""


def _draw_boxes(axes: Axes, samples: list[Floats], labels: list[str]) -> None:
    """Draw horizontal boxes, the first on top: quartiles, whiskers at 1.5 IQR, mean as a dot."""
    stats = []
    for values, label in zip(samples, labels, strict=True):
        known = values[~np.isnan(values)] * 100
        if not known.size:
            known = np.array([np.nan])
        (box,) = boxplot_stats(known)
        stats.append({**box, "fliers": [], "label": label})
    boxes(axes, stats)
    axes.set_xlim(0, 100)
    axes.grid(axis="x", color=INK, alpha=0.15, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=2)


def _boxes(panels: list[tuple[str, list[Floats], list[str]]], columns: int, unit: str) -> str:
    """Return a sheet of box plots as SVG; panels of (title, samples, labels)."""
    rows = -(-len(panels) // columns)
    tallest = max(len(labels) for _, _, labels in panels)
    shared = all(labels == panels[0][2] for _, _, labels in panels)
    with rc_context(STYLE):
        figure = Figure(
            figsize=(10.5, rows * (0.21 * tallest + 0.62)), layout="constrained", facecolor="none"
        )
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
        for n, axes in enumerate(grid.ravel()):
            if n >= len(panels):
                axes.set_visible(False)
                continue
            title, samples, labels = panels[n]
            _draw_boxes(axes, samples, labels)
            axes.set_facecolor("none")
            axes.set_title(title, fontsize=10, loc="left", fontweight="bold")
            if shared and n % columns:
                axes.set_yticklabels([])
            if n >= len(panels) - columns:
                axes.tick_params(labelbottom=True)
                axes.set_xlabel(unit)
        return svg(figure)


def class_boxes(comparison: Comparison) -> str:
    """Return box plots of every network, a panel a class, as SVG."""
    panel = comparison.panel
    stacked = panel.stacked
    panels = []
    for m, column in enumerate(panel.columns):
        n = int(np.max(np.sum(~np.isnan(stacked[:, :, m]), axis=1)))
        panels.append((f"{column} (n = {n})", list(stacked[:, :, m]), list(panel.networks)))
    return _boxes(panels, 2, f"{panel.metric.upper()} (%)")


def group_boxes(comparison: Comparison, grouping: Grouping) -> tuple[str, str]:
    """Return box plots of per-case means by group as SVG, and a note on networks left out."""
    panel = comparison.panel
    chosen = sorted(comparison.ranking["average"].order[:MOST_PANELS])
    means = panel.case_means
    labels = [
        f"{row.group} ({row.n})" for row in comparison.groups[grouping.column][chosen[0]].rows
    ]
    members = [grouping.members(group) for group in grouping.groups]
    panels = [(panel.networks[n], [means[n, m] for m in members], labels) for n in chosen]
    others = len(panel.networks) - len(chosen)
    note = (
        f"The {MOST_PANELS} best ranked networks; {others} more are in the table." if others else ""
    )
    return _boxes(panels, min(3, len(panels)), f"{panel.metric.upper()} (%)"), note


@dataclass(frozen=True)
class Picture:
    """A case in three planes: ``source`` is a ``data:`` address of a JPEG."""

    case: str
    source: str
    text: str


@dataclass(frozen=True)
class CaseLabel:
    """A network's label of a case, to be drawn beside the truth.

    ``labels`` is its folder of label maps, ``result`` its figure in words.
    """

    network: str
    labels: str | Path
    result: str


def draw_cases(
    cases: Sequence[str],
    images: str | Path,
    labels: str | Path | None = None,
    networks: Mapping[str, CaseLabel] | None = None,
) -> tuple[list[Picture], list[str]]:
    """Draw cases with the organs of ``labels`` on them, and with those of a network.

    Parameters
    ----------
    images, labels
        Folders of CTs and of the truth.
    networks
        Case to the network whose label is drawn too; both then show the planes where it
        differs most from the truth.

    Returns
    -------
    pictures, notes
        Pictures, and a sentence for each case that could not be drawn.
    """
    truths = find_labels(labels) if labels is not None else {}
    folders = {label.labels for label in (networks or {}).values()}
    predicted = {folder: find_labels(folder) for folder in folders}
    pictures: list[Picture] = []
    notes = []
    for case in cases:
        path = find_ct(Path(images), case)
        if path is None:
            notes.append(f"no picture of {case}: no CT of it in {images}")
            continue
        label = (networks or {}).get(case)
        try:
            ct = read_ct(path)
            truth = _on(ct, truths.get(case))
            predicted_label = None if label is None else _on(ct, predicted[label.labels].get(case))
            if label is not None and predicted_label is None:
                notes.append(f"no label of {case} in {label.labels}")
            pictures += _pictures(case, ct, truth, label, predicted_label)
        except Atlas8kError as err:
            notes.append(f"no picture of {case}: {err}")
    for note in notes:
        log.warning("%s", note)
    return pictures, notes


def _on(ct: Volume, path: Path | None) -> npt.NDArray[np.uint8] | None:
    """Return a label map on the CT's grid, axes as the CT's file has them."""
    if path is None:
        return None
    label = read_case(path)
    if not label.grid.same_as(ct.grid):
        return resample(label.array, label.grid, ct.grid, linear=False).astype(np.uint8)
    return label.array.astype(np.uint8)


def _pictures(
    case: str,
    ct: Volume,
    truth: npt.NDArray[np.uint8] | None,
    chosen: CaseLabel | None,
    predicted: npt.NDArray[np.uint8] | None,
) -> list[Picture]:
    point = None
    if truth is not None and predicted is not None and (truth != predicted).any():
        point = best_point(
            to_canonical(Volume((truth != predicted).astype(np.uint8), ct.grid)).array > 0
        )
    labels: list[tuple[npt.NDArray[np.uint8] | None, str]] = []
    if truth is not None:
        labels.append((truth, " with the truth's organs"))
    if chosen is not None and predicted is not None:
        labels.append((predicted, f" with the organs of {chosen.network} ({chosen.result})"))
    pictures = []
    for label, words in labels or [(None, "")]:
        stream = io.BytesIO()
        # A page holds twenty of these: as PNG it would be three times as large.
        draw_planes(stream, ct, label, point=point, form="jpg")
        source = f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
        pictures.append(Picture(case, source, f"{case}: axial, coronal and sagittal slices{words}"))
    return pictures


def _part(comparison: Comparison, pictures: Sequence[Picture]) -> dict[str, Any]:
    """Return what the page shows of one metric."""
    tables = comparison_tables(comparison)
    groups = []
    for grouping, (table, pairs) in zip(comparison.groupings, tables.groups, strict=True):
        # Two columns together make many small boxes: they stay tables.
        figure, note = ("", "") if grouping.combined else group_boxes(comparison, grouping)
        tests = comparison.groups[grouping.column]
        groups.append({
            "column": grouping.column, "table": table, "pairs": pairs, "figure": Markup(figure),
            "note": note, "warnings": dict.fromkeys(w for t in tests for w in t.warnings),
        })  # fmt: skip
    return {
        **tables._asdict(),
        "metric": comparison.panel.metric.upper(),
        "networks": len(comparison.panel.networks),
        "cases": len(comparison.panel.cases),
        "boxes": Markup(class_boxes(comparison)),
        "groups": groups,
        "pictures": pictures,
        "notes": comparison.notes,
    }


def _fill(template: str, **content: object) -> str:
    environment = Environment(
        loader=PackageLoader("atlas8k.reports"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.globals["letters"] = string.ascii_letters
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return environment.get_template(template).render(made=made, version=__version__, **content)


def render(
    comparisons: Sequence[Comparison],
    pictures: Mapping[str, Sequence[Picture]] | None = None,
    *,
    title: str = "Networks compared",
    tolerance: str = "",
) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    comparisons
        One a metric.
    pictures
        Metric to pictures of its worst cases.
    tolerance
        Words on NSD's tolerance, which result files do not state.
    """
    parts = [_part(c, (pictures or {}).get(c.panel.metric, ())) for c in comparisons]
    return _fill("report.html.j2", title=title, parts=parts, tolerance=tolerance)


def write_table_page(
    path: str | Path,
    tables: Sequence[Table],
    *,
    title: str,
    notes: Sequence[str] = (),
    footer: str | None = None,
    figures: Sequence[Drawing] = (),
) -> Path:
    """Write a page of tables; without a `footer` it tells of the folder of tables beside.

    Parameters
    ----------
    figures
        Each goes before the table of its name, or before all tables.
    """
    by_table: dict[str, list[Drawing]] = {}
    for one in figures:
        by_table.setdefault(one.table, []).append(one)
    page = _fill(
        "tables.html.j2", title=title, tables=tables, notes=notes, footer=footer, figures=by_table
    )
    return write_text(path, page)
