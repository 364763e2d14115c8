"""What tests of the page of a case do there: take a case, draw, read what is shown, submit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
import requests
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from tests.e2e.browser import until
from tests.e2e.harness import Server
from tests.e2e.small import LIMIT_S
from tests.server.tiny import GRID, write_ct

from atlas8k.core.volume import read_label
from atlas8k.services import viewer

needs_niivue = pytest.mark.skipif(
    not viewer.NIIVUE.is_file(), reason="not installed: NiiVue (atlas8k viewer install)"
)
SHOWN = "document.documentElement.classList.contains('niivue')"
NV = "(await import('/atlas8k/viewer/case.js')).nv"
READY = "!!document.querySelector('#tools') && !document.querySelector('#tools').hidden"
SAVED = "document.querySelector('#saved').textContent.startsWith('Saved at')"
WAYS = ("RAS", "LPS", "LAI", "PIR", "SRA", "ASL")


def take(page: Any, image: str) -> None:
    """Open a case and have it in hand."""
    page.goto(f"/atlas8k/case?image={image}")
    if page.locator("text=Take it").count():
        page.click("text=Take it")
        page.wait_for_selector("text=In your hands for")
    page.wait_for_selector("tr[data-organ][aria-current=true]")  # keys count from then on


def state(page: Any, organ: str) -> str:
    return str(page.input_value(f"tr[data-organ={organ}] select"))


def write_turned(path: Path, way: str) -> None:
    """A CT whose axes lie as `way` says, oblique, of three different spacings."""
    image = nib.load(write_ct(path, seed=3))
    turn = ornt_transform(io_orientation(GRID.affine), axcodes2ornt(way))
    image = image.as_reoriented(turn)
    angle = np.deg2rad(9)
    rotation = np.array(
        [
            [np.cos(angle), -np.sin(angle), 0],
            [np.sin(angle), np.cos(angle), 0],
            [0, 0, 1],
        ]
    )
    affine = image.affine.copy()
    affine[:3, :3] = rotation @ affine[:3, :3] * [0.93, 1.07, 1.31]
    affine[:3, 3] = (13.7, -41.2, 7.9)
    made = nib.Nifti1Image(np.asarray(image.dataobj), affine)
    made.set_sform(affine, 1)
    made.set_qform(affine, 1)
    nib.save(made, path)


def begin(page: Any, image: str) -> None:
    take(page, image)
    until(page, READY)


def stroke(page: Any, plane: int, start: tuple[float, float], stop: tuple[float, float]) -> None:
    """Draw with the mouse in one of the planes: 0 axial, 1 coronal, 2 sagittal."""
    left, top, width, height = page.evaluate(
        f"async number => [...{NV}.screenSlices.find(one => one.axCorSag === number)"
        ".leftTopWidthHeight].map(n => n / (window.devicePixelRatio || 1))",
        plane,
    )
    box = page.locator("#gl").bounding_box()
    x, y = box["x"] + left, box["y"] + top
    page.mouse.move(x + start[0] * width, y + start[1] * height)
    page.mouse.down()
    page.mouse.move(x + stop[0] * width, y + stop[1] * height, steps=8)
    page.mouse.up()


def drawn(page: Any) -> npt.NDArray[np.float64]:
    """Every voxel that the page shows as an organ: its place in mm, its HU and its organ."""
    found = page.evaluate(
        f"""async () => {{
          const nv = {NV}, [, nx, ny, nz] = nv.back.dimsRAS, found = [];
          for (let z = 0; z < nz; z++) for (let y = 0; y < ny; y++) for (let x = 0; x < nx; x++) {{
            const value = nv.drawBitmap[x + nx * (y + ny * z)];
            if (!value) continue;
            const mm = nv.frac2mm(nv.vox2frac([x, y, z]), 0, true);
            found.push([mm[0], mm[1], mm[2], nv.back.getValue(x, y, z), value]);
          }}
          return found;
        }}"""
    )
    return np.array(found).reshape(-1, 5)


def label(server: Server, image: str, tag: str = "final") -> npt.NDArray[np.uint8]:
    where = f"{server.url}/datastore/label?label={image}&tag={tag}"
    answer = requests.get(where, timeout=LIMIT_S)
    assert answer.status_code == 200, answer.text
    path = server.log.parent / "got.nii.gz"
    path.write_bytes(answer.content)
    return read_label(path).array


def submit(page: Any) -> None:
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("text=is submitted:")
