"""A wrong kidney pole is mended with two strokes on the page of a case, and submitted as drawn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.e2e.browser import keep, needs_chromium, until
from tests.e2e.case_page import SAVED, begin, drawn, label, needs_niivue, submit
from tests.e2e.harness import Server
from tests.e2e.small import small_server
from tests.e2e.wrong_pole import (
    BLOB,
    CENTRE,
    KIDNEY,
    SPLEEN,
    WAYS,
    across,
    enter,
    patient,
    turned,
)

pytestmark = [pytest.mark.slow, needs_chromium, needs_niivue]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("page")
    with small_server(folder, "--conf", "networks", "false", images=()) as started:
        enter(started)
        yield started


def answered(page: Any) -> None:
    until(page, "document.querySelector('#tools').ariaBusy === 'false'")


@pytest.mark.parametrize("way", WAYS)
def test_a_wrong_pole_is_mended_with_two_strokes(page: Any, server: Server, way: str) -> None:
    image = f"kidney_{way}"
    begin(page, image)
    page.keyboard.press(str(KIDNEY))
    begun = drawn(page)
    page.keyboard.press("s")
    page.wait_for_selector("text=Draw through the middle of what is wrong")
    across(page, np.array([CENTRE[0], CENTRE[1], 106.0]), 9)
    page.wait_for_selector("text=ml more")
    answered(page)
    one = drawn(page)
    assert len(one) > len(begun)
    keep(page, f"strokes_{way}")
    page.keyboard.press("Control+z")
    assert np.array_equal(drawn(page), begun)  # to the voxel
    page.keyboard.press("Control+y")
    assert np.array_equal(drawn(page), one)
    page.keyboard.press("r")
    across(page, BLOB, 5)
    answered(page)
    until(page, SAVED)
    shown = drawn(page)
    submit(page)
    final = label(server, image)
    _, truth, wrong = patient()
    truth, grid = turned(truth, way)
    wrong, _ = turned(wrong, way)
    expected = np.zeros(final.shape, np.uint8)
    inverse = np.linalg.inv(grid.affine)
    i, j, k = np.rint(shown[:, :3] @ inverse[:3, :3].T + inverse[:3, 3]).astype(int).T
    expected[i, j, k] = shown[:, 4]
    assert np.array_equal(final, expected)
    before, after = ((m == KIDNEY) ^ truth for m in (wrong, final))
    assert after.sum() < 0.35 * before.sum(), (before.sum(), after.sum())
    assert np.array_equal(final == SPLEEN, wrong == SPLEEN)
