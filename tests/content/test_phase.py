"""The contrast phase is found by published HU, on phantoms of each phase and on real CTs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from tests.benchmarks.contrast_phase import PHASES, confusion, found_phase
from tests.content.kit import BODIES, DATA, real
from typer.testing import CliRunner

from abdomen_phantom.bodies import paint_body, read_bodies
from atlas8k.cli import app
from atlas8k.content.phase import estimate_phase, organ_hu
from atlas8k.core.grid import Grid, Volume
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import read_label

NAMES = ("aorta", "postcava", "kidneys", "liver", "renal_pelvis", "renal_cortex")


@pytest.mark.parametrize(
    ("hu", "phase"),
    [
        ((40, 40, 33, 56, 40, 38), "non-contrast"),
        ((40, 40, 33, 56, 600, 38), "non-contrast"),  # a stone
        ((350, 85, 170, 78, 250, 240), "arterial"),  # Kanematsu et al.
        ((350, 85, 170, 30, 250, 240), "arterial"),  # a fatty liver
        ((160, 150, 190, 118, 200, 195), "portal-venous"),
        ((160, 85, 190, 110, 200, 195), "portal-venous"),  # unenhanced blood of the legs
        ((160, 150, 190, 30, 200, 195), "portal-venous"),  # a fatty liver
        ((100, 95, 115, 85, 120, 118), "portal-venous"),  # a weak bolus
        ((110, 108, 150, 92, 500, 160), "delayed"),
        ((150, 140, 200, 115, 500, 210), "delayed"),  # a strong one
        ((90, 90, None, 80, None, None), "unsure"),
        ((140, 135, None, 105, None, None), "portal-venous"),
        ((300, None, None, None, None, None), "arterial"),
        ((78, 75, 80, 60, 80, 80), "unsure"),
        ((None, None, None, 90, None, None), "unsure"),
        ((None, None, 33, 50, 35, 35), "non-contrast"),
    ],
)
def test_phases_by_published_hu(hu: tuple[float | None, ...], phase: str) -> None:
    assert estimate_phase(dict(zip(NAMES, hu, strict=True))) == phase


def test_phantoms_of_each_phase() -> None:
    table = confusion(range(300, 305))
    right = sum(table[PHASES[phase]][phase] for phase in PHASES)
    assert right >= 0.95 * 5 * len(PHASES), table


def test_urine_with_contrast_is_found_beside_the_kidney() -> None:
    """A kidney as a cup with urine in it, 1 mm voxels; bone 20 mm from it counts for nothing."""
    shape, mm = (90, 90, 90), np.indices((90, 90, 90)) - 45.0
    radius = np.sqrt((mm**2).sum(0))
    kidney = (radius < 28) & ~((np.abs(mm[1:]).max(0) < 9) & (mm[0] > -8))
    label = np.where(kidney, ORGAN_IDS["kidney_left"], 0).astype(np.uint8)
    array = np.where(kidney, 150.0, -90.0).astype(np.float32)
    array[:, :, :8] = 900.0
    grid = Grid(shape, np.diag([1.0, 1.0, 1.0, 1.0]))
    thin = Volume(array[::4, ::4, ::4], Grid((23, 23, 23), np.diag([4.0, 4.0, 4.0, 1.0])))
    dark = organ_hu(Volume(array, grid), thin, label[::4, ::4, ::4])
    assert dark["renal_pelvis"] == pytest.approx(145, abs=8)
    array[(np.sqrt((mm[1:] ** 2).sum(0)) < 6) & (mm[0] > 0) & (mm[0] < 14)] = 480.0
    bright = organ_hu(Volume(array, grid), thin, label[::4, ::4, ::4])
    assert bright["renal_pelvis"] == pytest.approx(360, abs=60)  # smoothed by 3 mm
    assert bright["renal_cortex"] == pytest.approx(145, abs=8)
    assert bright["aorta"] is None


@pytest.mark.parametrize("phase", PHASES)
def test_a_ct_painted_on_a_real_body(phase: str) -> None:
    if not (BODIES / "s0004_structures.nii.gz").is_file():
        pytest.skip(f"{BODIES} is not there")
    made = paint_body(read_bodies(BODIES, ["s0004"]), 3, grid_spacing_mm=4.0, phase=phase)
    assert found_phase(made.ct, made.label) == PHASES[phase]


@pytest.mark.parametrize("name", ["totalsegmentator-example", "s0009"])
def test_a_real_plain_ct_by_the_labels_beside_it(name: str) -> None:
    if name == "s0009":
        ct = real("totalsegmentator-bodies/s0009_ct.nii.gz")
        label = _organs(read_label(BODIES / "s0009_structures.nii.gz"))
    else:
        ct = real(f"{name}/ct.nii.gz")
        label = read_label(DATA / name / "labels_model_v2.nii.gz")
    assert found_phase(ct, label) == "non-contrast"


def _organs(structures: Volume) -> Volume:
    names = {"aorta", "inferior_vena_cava", "kidney_left", "kidney_right", "liver", "spleen"}
    table = np.zeros(256, np.uint8)
    with open(BODIES / "structures.csv", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if row["structure"] in names:
                organ = row["structure"].replace("inferior_vena_cava", "postcava")
                table[int(row["value"])] = ORGAN_IDS[organ]
    return Volume(table[np.asarray(structures.array)], structures.grid)


@pytest.mark.slow
def test_a_real_ct_after_contrast_by_the_embedded_networks(tmp_path: Path) -> None:
    if not (DATA / "cptac-pda-dicom").is_dir():
        pytest.skip("cptac-pda-dicom is not there")
    out = tmp_path / "label.nii.gz"
    done = CliRunner().invoke(
        app, ["predict", str(DATA / "cptac-pda-dicom"), str(out), "--statistics"]
    )
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "label.json").read_text())
    (phase,) = (f["value"] for f in report["familiar"]["features"] if f["name"] == "phase")
    assert phase in ("arterial", "portal-venous", "delayed")
