"""Figures of a datasheet: organ volumes by source, label noise before and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cbook import boxplot_stats
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from atlas8k.reports.svg import BOX, INK, OTHER, STYLE, Drawing, boxes, svg

MOST_SOURCES = 12
"""Sources with a box of their own; the largest, where there are more."""
LEAST_ML = 0.01
"""Smaller organs are drawn as this: the axis is logarithmic."""

Sample = tuple[str, npt.NDArray[np.float64]]


class Noise(NamedTuple):
    """Of the volumes that were checked, how many had a finding before and after."""

    organ: str
    checked: int
    before: int
    after: int


def size_boxes(panels: Sequence[tuple[str, Sequence[Sample]]]) -> Drawing | None:
    """Draw organ volumes: a panel an organ, a box a source; None where there are none.

    Parameters
    ----------
    panels
        Organ, and of each source its name and volumes, ml.
    """
    drawn = [(organ, [s for s in samples if len(s[1])]) for organ, samples in panels]
    drawn = [(organ, samples) for organ, samples in drawn if samples]
    if not drawn:
        return None
    columns, most = 3, max(len(samples) for _, samples in drawn)
    rows = -(-len(drawn) // columns)
    with rc_context(STYLE):
        figure = Figure(
            figsize=(10.5, rows * (0.24 * most + 0.9)), layout="constrained", facecolor="none"
        )
        grid = figure.subplots(rows, columns, squeeze=False)
        for n, axes in enumerate(grid.ravel()):
            if n >= len(drawn):
                axes.set_visible(False)
                continue
            organ, samples = drawn[n]
            _boxes(axes, samples)
            axes.set_title(organ.replace("_", " "), fontsize=10, loc="left", fontweight="bold")
            if n >= len(drawn) - columns:
                axes.set_xlabel("ml")
        text = svg(figure)
    caption = (
        "Millilitres, logarithmic; box: quartiles, line: median, dot: mean, whiskers: the last "
        "volume within 1.5 times the box. Made of the rows of manifest.csv whose state is not "
        "absent; in brackets, how many."
    )
    return Drawing("sizes", "Organ volumes by source", caption, Markup(text))


def _boxes(axes: Axes, samples: Sequence[Sample]) -> None:
    stats = []
    for name, ml in samples:
        (box,) = boxplot_stats(np.maximum(ml, LEAST_ML))
        stats.append({**box, "fliers": [], "label": f"{name} ({len(ml)})"})
    boxes(axes, stats)
    axes.set_xscale("log")
    ends = [end for box in stats for end in (box["whislo"], box["whishi"])]
    axes.set_xlim(min(ends) / 1.4, max(ends) * 1.4)
    wide = max(ends) / min(ends) > 200
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x", color=INK, alpha=0.15, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=2)
    axes.set_facecolor("none")


def noise_bars(noise: Sequence[Noise]) -> Drawing | None:
    """Draw the share of volumes with a finding before and after, by organ; None: none checked."""
    known = [one for one in noise if one.checked]
    if not known:
        return None
    with rc_context(STYLE):
        figure = Figure(
            figsize=(10.5, 0.36 * len(known) + 1.0), layout="constrained", facecolor="none"
        )
        axes = figure.subplots()
        axes.set_facecolor("none")
        at = np.arange(len(known))
        for shift, color, words, counts in (
            (-0.19, OTHER, "before", [one.before for one in known]),
            (0.19, BOX, "after", [one.after for one in known]),
        ):
            shares = [100.0 * n / one.checked for n, one in zip(counts, known, strict=True)]
            bars = axes.barh(at + shift, shares, 0.36, color=color, alpha=0.8, label=words)
            axes.bar_label(bars, [f"{share:.1f} %" for share in shares], padding=3, fontsize=8)
        axes.set_yticks(at, [f"{one.organ.replace('_', ' ')} ({one.checked})" for one in known])
        axes.invert_yaxis()
        axes.set_xlabel("% of the volumes that were checked")
        axes.margins(x=0.12)
        axes.set_xlim(left=0)
        axes.tick_params(length=2)
        axes.legend(frameon=False, loc="lower right")
        text = svg(figure)
    caption = (
        "Share of volumes in which an anatomical rule has something against the organ: before in "
        "the pseudo label, after in the current one, over all sources; in brackets, how many were "
        "checked. Made of the table below."
    )
    return Drawing("noise", "Label noise before and after", caption, Markup(text))
