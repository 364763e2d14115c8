"""Figures of the report as inline SVG that takes the page's text colour."""

from __future__ import annotations

import hashlib
import io
import re

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cbook import boxplot_stats
from matplotlib.figure import Figure

from atlas8k.evaluation.compare import Comparison
from atlas8k.evaluation.metadata import Grouping
from atlas8k.evaluation.statistics import Floats

INK = "#010203"
"""Stands for the page's text colour; becomes ``currentColor`` in the SVG."""
BOX = "#3d7edb"
MOST_PANELS = 9
"""Networks shown by group; the best ranked ones where there are more."""

_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def _draw_boxes(axes: Axes, samples: list[Floats], labels: list[str]) -> None:
    """Horizontal boxes, the first at the top: quartiles, whiskers at 1.5 IQR, mean as a dot."""
    stats = []
    for values, label in zip(samples, labels, strict=True):
        known = values[~np.isnan(values)] * 100
        if not known.size:
            known = np.array([np.nan])
        (box,) = boxplot_stats(known)
        stats.append({**box, "fliers": [], "label": label})
    line = {"color": INK, "linewidth": 0.8}
    axes.bxp(
        stats, orientation="horizontal", showfliers=False, showmeans=True, patch_artist=True,
        widths=0.62, whiskerprops=line, capprops=line,
        boxprops={"facecolor": BOX, "alpha": 0.55, "edgecolor": INK, "linewidth": 0.6},
        medianprops={"color": INK, "linewidth": 1.6},
        meanprops={"marker": "o", "markersize": 3, "markerfacecolor": INK,
                   "markeredgecolor": INK},
    )  # fmt: skip
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.grid(axis="x", color=INK, alpha=0.15, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=2)


def _boxes(panels: list[tuple[str, list[Floats], list[str]]], columns: int, unit: str) -> str:
    """A sheet of box plots as SVG; panels of (title, samples, labels)."""
    rows = -(-len(panels) // columns)
    tallest = max(len(labels) for _, _, labels in panels)
    shared = all(labels == panels[0][2] for _, _, labels in panels)
    with rc_context(_STYLE):
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
        return _svg(figure)


def _svg(figure: Figure) -> str:
    """The figure as an ``<svg>`` element to put into a page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # A page has one name space for ids: those in use get the figure's own prefix, the
    # rest go.
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text))
    own = hashlib.sha256(text.encode()).hexdigest()[:10]
    text = re.sub(r' id="([^"]*)"', lambda m: f' id="{own}-{m[1]}"' if m[1] in used else "", text)
    text = re.sub(r'(url\(#|href="#)([^)"]+)', rf"\g<1>{own}-\g<2>", text)
    head, rest = text.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    return (head + ' role="img">' + rest).replace(INK, "currentColor")


def class_boxes(comparison: Comparison) -> str:
    """Box plots of every network, a panel a class."""
    panel = comparison.panel
    stacked = panel.stacked
    panels = []
    for m, column in enumerate(panel.columns):
        n = int(np.max(np.sum(~np.isnan(stacked[:, :, m]), axis=1)))
        panels.append((f"{column} (n = {n})", list(stacked[:, :, m]), list(panel.networks)))
    return _boxes(panels, 2, f"{panel.metric.upper()} (%)")


def group_boxes(comparison: Comparison, grouping: Grouping) -> tuple[str, str]:
    """Box plots of per-case means by group, a panel a network; and a note on those left out."""
    panel = comparison.panel
    order = np.argsort(np.nan_to_num(comparison.ranking["average"].rank, nan=np.inf), kind="stable")
    chosen = sorted(order[:MOST_PANELS].tolist())
    means = panel.case_means
    labels = [
        f"{row.group} ({row.n})" for row in comparison.groups[grouping.column][chosen[0]].rows
    ]
    members = [grouping.members(group) for group in grouping.groups]
    panels = [(panel.networks[n], [means[n, m] for m in members], labels) for n in chosen]
    left = len(panel.networks) - len(chosen)
    note = f"The {MOST_PANELS} best ranked networks; {left} more are in the table." if left else ""
    return _boxes(panels, min(3, len(panels)), f"{panel.metric.upper()} (%)"), note
