"""Charts of the campaign's page as SVG text: colours come from the page's style."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from atlas8k.store.overview import Bin

WIDTH, HEIGHT = 960, 220
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 18, 34


class Curve(NamedTuple):
    """A line of a chart: its name, its class in the style, and a value a round or None."""

    name: str
    style: str
    values: Sequence[float | None]


def _frame(title: str, parts: Sequence[str], width: int = WIDTH) -> Markup:
    return Markup(
        f'<svg class="chart" viewBox="0 0 {width} {HEIGHT}" role="img"'
        f' aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, words: str, anchor: str = "middle", style: str = "") -> str:
    of_style = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{of_style}>{escape(words)}</text>'


def short(value: float) -> str:
    """Return a figure in three digits or more, without an exponent where it is large."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _levels(most: float, width: int = WIDTH, least: float = 0.0) -> list[str]:
    """Return lines at the bottom, half-way and at the top, with the values they stand for."""
    parts = []
    for share in (0.0, 0.5, 1.0):
        y = HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
        parts.append(
            f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{width - RIGHT}" y2="{y:.1f}"/>'
        )
        parts.append(_text(LEFT - 6, y + 4, short(least + share * (most - least)), "end"))
    return parts


def distribution(bins: Sequence[Bin], budget: int, figure: str) -> Markup:
    """Return the priority list as bars, the largest first, with a line where the budget ends.

    Parameters
    ----------
    bins
        Neighbouring places; what was submitted of each is filled.
    budget
        So many places are the budget's; 0: no line.
    figure
        What volumes rank by, with its unit.
    """
    total = bins[-1].last
    most = max(one.mean for one in bins) or 1.0
    across, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    base = HEIGHT - BOTTOM
    parts = _levels(most)
    for one in bins:
        x = LEFT + (one.first - 1) / total * across
        wide = max(0.6, one.count / total * across - (0.0 if len(bins) > 60 else 2.0))
        height = one.mean / most * up
        done = height * one.done / one.count
        parts.append(
            f'<rect class="to-do" x="{x:.2f}" y="{base - height:.2f}" width="{wide:.2f}"'
            f' height="{height - done:.2f}"/>'
            f'<rect class="done" x="{x:.2f}" y="{base - done:.2f}" width="{wide:.2f}"'
            f' height="{done:.2f}"/>'
        )
    if budget:
        x = LEFT + min(budget, total) / total * across
        near_end = x > WIDTH * 0.7
        parts.append(f'<line class="budget" x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{base}"/>')
        at, anchor = (x - 6, "end") if near_end else (x + 6, "start")
        parts.append(_text(at, TOP + 2, f"budget: first {budget}", anchor))
    parts.append(_text(LEFT, HEIGHT - 14, "1", "start"))
    parts.append(_text(WIDTH - RIGHT, HEIGHT - 14, str(total), "end"))
    parts.append(_text(LEFT + across / 2, HEIGHT - 14, f"place in the list; bars: {figure}"))
    done_in_all = sum(one.done for one in bins)
    title = (
        f"{figure} of {total} volumes in order: from {short(bins[0].most)} at the first"
        f" to {short(bins[-1].mean)} at the last; {done_in_all} are submitted"
        + (f"; the budget ends at place {budget}" if budget else "")
    )
    return _frame(title, parts)


def rounds(
    numbers: Sequence[int],
    curves: Sequence[Curve],
    unit: str,
    *,
    from_nothing: bool = True,
    width: int = 470,
) -> Markup:
    """Return values over rounds as curves; a round without a value has no point.

    Parameters
    ----------
    numbers
        Of the rounds; each curve has a value for each.
    unit
        Of the values, below the chart.
    from_nothing
        The bottom is 0; else a little below the least value, for what changes little.
    """
    given = [value for curve in curves for value in curve.values if value is not None]
    most = max(given, default=1.0) or 1.0
    spread = most - min(given, default=0.0)
    least = 0.0 if from_nothing else max(0.0, most - 1.5 * (spread or most))
    across, up = width - LEFT - RIGHT - 40, HEIGHT - TOP - BOTTOM
    step = across / max(1, len(numbers) - 1)
    parts = _levels(most, width, least)
    for place, number in enumerate(numbers):
        parts.append(_text(LEFT + 20 + place * step, HEIGHT - 16, str(number)))
    parts.append(_text(width - RIGHT, HEIGHT - 2, f"round; {unit}", "end"))
    for at, curve in enumerate(curves):
        points = [
            (LEFT + 20 + place * step, HEIGHT - BOTTOM - (value - least) / (most - least) * up)
            for place, value in enumerate(curve.values)
            if value is not None
        ]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline class="{curve.style}" points="{line}"/>')
        parts += [
            f'<circle class="{curve.style}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in points
        ]
        x = LEFT + 8 + at * 150
        parts.append(f'<rect class="key {curve.style}" x="{x}" y="2" width="14" height="4"/>')
        parts.append(_text(x + 20, 9, curve.name, "start"))
    said = "; ".join(
        f"{curve.name}: "
        + ", ".join(
            f"round {number} {value:.3g}"
            for number, value in zip(numbers, curve.values, strict=True)
            if value is not None
        )
        for curve in curves
    )
    return _frame(f"{unit}. {said}", parts, width)
