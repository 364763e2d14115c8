"""A wrong kidney pole is mended with two strokes on the page of a case, and submitted as drawn."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import requests
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from tests.e2e.browser import keep, needs_chromium, until
from tests.e2e.case_page import NV, SAVED, begin, drawn, label, needs_niivue, stroke, submit
from tests.e2e.harness import Server
from tests.e2e.small import LIMIT_S, small_server

from atlas8k.core.grid import Grid
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import write_nifti
from atlas8k.services.labels.service import LabelService

pytestmark = [pytest.mark.slow, needs_chromium, needs_niivue]
KIDNEY, SPLEEN = ORGAN_IDS["kidney_left"], ORGAN_IDS["spleen"]
STRAIGHT = Grid((72, 66, 60), np.diag([2.0, 2.0, 2.5, 1.0]))
CENTRE, RADII = np.array([90.0, 66.0, 75.0]), np.array([24.0, 22.0, 46.0])
POLE_MM, BLOB = 92.0, np.array([90.0, 66.0, 22.0])
WAYS = ("RAS", "PSL")


def ellipsoid(centre: np.ndarray, radii: Any) -> np.ndarray:
    at = np.indices(STRAIGHT.shape).reshape(3, -1)
    mm = (STRAIGHT.affine[:3, :3] @ at + STRAIGHT.affine[:3, 3:]).T
    near = (((mm - centre) / radii) ** 2).sum(axis=1) <= 1
    return near.reshape(STRAIGHT.shape)


def patient() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A CT, the true kidney and a label that lacks a pole and has too much at the other end."""
    kidney = ellipsoid(CENTRE, RADII)
    body = ellipsoid(np.array([72.0, 66.0, 75.0]), (66.0, 60.0, 500.0))
    noise = np.random.default_rng(0).normal(0, 8, STRAIGHT.shape)
    ct = np.where(body, 45 + noise, -1000)
    ct = np.where(kidney, 185 + noise, ct).astype(np.int16)
    z = np.indices(STRAIGHT.shape)[2] * 2.5
    wrong = np.where(kidney & (z < POLE_MM), KIDNEY, 0).astype(np.uint8)
    wrong[ellipsoid(BLOB, 11.0) & ~kidney] = KIDNEY
    wrong[4:10, 26:40, 20:40] = SPLEEN
    return ct, kidney, wrong


def turned(array: np.ndarray, way: str) -> tuple[np.ndarray, Grid]:
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(way))
    found = apply_orientation(array, turn)
    return found, Grid(found.shape, STRAIGHT.affine @ inv_ornt_aff(turn, STRAIGHT.shape))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("page")
    ct, _, wrong = patient()
    with small_server(folder, "--conf", "networks", "false", images=()) as started:
        for way in WAYS:
            array, grid = turned(ct, way)
            write_nifti(started.studies / f"kidney_{way}.nii.gz", array, grid)
        service = LabelService.open(started.studies)
        for way in WAYS:
            array, grid = turned(wrong, way)
            info = {"model_version": "none"}
            service.keep_pseudo(f"kidney_{way}", np.ascontiguousarray(array), grid, info)
        service.close()
        end = time.monotonic() + LIMIT_S
        for way in WAYS:  # a folder is looked at again after some seconds
            where = f"{started.url}/atlas8k/case?image=kidney_{way}"
            while "Take it" not in requests.get(where, timeout=LIMIT_S).text:
                assert time.monotonic() < end, f"kidney_{way} is not there"
                time.sleep(0.2)
        yield started


def at(page: Any, mm: np.ndarray) -> None:
    """Put the crosshair somewhere."""
    page.evaluate(
        f"async mm => {{ const nv = {NV}; nv.scene.crosshairPos = nv.mm2frac(mm, 0, true);"
        " nv.drawScene(); }",
        [float(v) for v in mm],
    )


def across(page: Any, mm: np.ndarray, half_mm: float) -> None:
    """Draw from right to left in the axial slice through a place."""
    at(page, mm)
    page.focus("#gl")  # a first click would scroll to it
    extent = np.array(STRAIGHT.shape) * STRAIGHT.spacing
    x, y = 1 - (mm[0] + 1) / extent[0], 1 - (mm[1] + 1) / extent[1]
    half = half_mm / extent[0]
    stroke(page, 0, (x - half, y), (x + half, y))


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
