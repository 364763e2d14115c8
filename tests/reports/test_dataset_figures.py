"""Figures of a datasheet show what they are given, and nothing where there is nothing."""

from __future__ import annotations

import re

import numpy as np

from atlas8k.reports.dataset_figures import Noise, noise_bars, size_boxes


def words(text: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]+)</text>", text)


def test_a_box_for_each_source_that_has_the_organ() -> None:
    some, none = np.array([900.0, 1500.0, 2100.0]), np.array([])
    made = size_boxes([("liver", [("all", some), ("BTCV", some[:2]), ("AMOS22", none)]),
                       ("gall_bladder", [("all", none)])])  # fmt: skip
    assert made is not None
    shown = words(made.svg)
    assert {"liver", "all (3)", "BTCV (2)", "1000", "ml"} <= {*shown}
    assert not any("AMOS22" in one or "gall" in one for one in shown)
    assert "#010203" not in made.svg
    assert size_boxes([("liver", [("all", none)])]) is None


def test_noise_is_a_share_of_what_was_checked() -> None:
    made = noise_bars([Noise("aorta", 40, 13, 1), Noise("liver", 0, 0, 0)])
    assert made is not None
    shown = words(made.svg)
    assert {"aorta (40)", "32.5 %", "2.5 %", "before", "after"} <= {*shown}
    assert not any("liver" in one for one in shown)
    assert noise_bars([]) is None
