"""Charts are well-formed, say in words what they show, and stay inside their frame."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from atlas8k.server.charts import HEIGHT, WIDTH, Curve, distribution, rounds
from atlas8k.store.overview import Bin


def rectangles(svg: str) -> list[dict[str, float]]:
    found = ElementTree.fromstring(svg).iter("rect")
    return [
        {key: float(one.attrib[key]) for key in ("x", "y", "width", "height")}
        for one in found
        if "key" not in one.attrib["class"]
    ]


@pytest.mark.parametrize("budget", [0, 2, 40, 10_000])
def test_distribution(budget: int) -> None:
    bins = [Bin(i * 10 + 1, i * 10 + 10, 9.0 - i, 10.0 - i, i % 11, 10) for i in range(9)]
    svg = str(distribution(bins, budget, "salient volume (ml)"))
    for one in rectangles(svg):
        assert one["x"] >= 0
        assert one["x"] + one["width"] <= WIDTH
        assert one["y"] >= 0
        assert one["y"] + one["height"] <= HEIGHT
        assert one["height"] >= 0
    heights = [
        top["height"] + below["height"]
        for top, below in zip(rectangles(svg)[::2], rectangles(svg)[1::2], strict=True)
    ]
    assert heights == sorted(heights, reverse=True)
    label = ElementTree.fromstring(svg).attrib["aria-label"]
    assert "of 90 volumes in order" in label
    assert "36 are submitted" in label
    assert (f"ends at place {budget}" in label) == bool(budget)


def test_nothing_to_correct_is_no_division_by_nothing() -> None:
    assert "0" in distribution([Bin(1, 3, 0.0, 0.0, 0, 3)], 1, "a")
    assert "polyline" in rounds([1], [Curve("a", "after", [0.0])], "DSC")
    assert "polyline" in rounds([1, 2], [Curve("a", "after", [0.5, 0.5])], "D", from_nothing=False)


def test_rounds() -> None:
    curves = [
        Curve("before", "before", [0.80, 0.86, None]),
        Curve("<after>", "after", [0.86, 0.88, None]),
    ]
    svg = str(rounds([1, 2, 3], curves, "DSC", from_nothing=False))
    points = [one.attrib for one in ElementTree.fromstring(svg).iter("circle")]
    assert len(points) == 4
    ys = [float(one["cy"]) for one in points]
    assert ys[0] > ys[1] == ys[2] > ys[3]
    assert all(0 < y < HEIGHT for y in ys)
    assert "&lt;after&gt;: round 1 0.86" in svg
