"""A CT with one bright kidney, and a label that lacks a pole and has too much at the other end."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import requests
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from tests.e2e.case_page import NV, stroke
from tests.e2e.harness import Server
from tests.e2e.small import LIMIT_S

from atlas8k.core.grid import Grid
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import write_nifti
from atlas8k.services.labels.service import LabelService

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


def enter(server: Server) -> None:
    """Put the CT, stored along other axes each time, and its label into a server's studies."""
    ct, _, wrong = patient()
    for way in WAYS:
        array, grid = turned(ct, way)
        write_nifti(server.studies / f"kidney_{way}.nii.gz", array, grid)
    service = LabelService.open(server.studies)
    for way in WAYS:
        array, grid = turned(wrong, way)
        info = {"model_version": "none"}
        service.keep_pseudo(f"kidney_{way}", np.ascontiguousarray(array), grid, info)
    service.close()
    end = time.monotonic() + LIMIT_S
    for way in WAYS:  # a folder is looked at again after some seconds
        where = f"{server.url}/atlas8k/case?image=kidney_{way}"
        while "Take it" not in requests.get(where, timeout=LIMIT_S).text:
            assert time.monotonic() < end, f"kidney_{way} is not there"
            time.sleep(0.2)


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
