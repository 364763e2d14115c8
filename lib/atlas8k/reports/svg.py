"""Figures as SVG in a page: its text colour, light or dark, and ids that meet no others."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#010203"
"""Stands for the page's text colour; becomes ``currentColor`` in the SVG."""
BOX = "#3d7edb"
OTHER = "#d97b29"
"""The second of two colours, told from the first by people who see no red or green, too."""

STYLE = {
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


class Drawing(NamedTuple):
    """A figure of a page of tables: the table that it goes before, and how it was made."""

    table: str
    title: str
    caption: str
    svg: Markup


def svg(figure: Figure) -> str:
    """Return the figure as an ``<svg>`` element to put into a page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # A page has one name space for ids: those in use get the figure's own prefix, the
    # rest go.
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text))
    prefix = hashlib.sha256(text.encode()).hexdigest()[:10]
    text = re.sub(
        r' id="([^"]*)"', lambda m: f' id="{prefix}-{m[1]}"' if m[1] in used else "", text
    )
    text = re.sub(r'(url\(#|href="#)([^)"]+)', rf"\g<1>{prefix}-\g<2>", text)
    head, rest = text.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    return (head + ' role="img">' + rest).replace(INK, "currentColor")


def boxes(axes: Axes, stats: Sequence[dict[str, Any]]) -> None:
    """Draw horizontal boxes of matplotlib's ``boxplot_stats``, the first on top; means are dots."""
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
