"""What is no abdominal CT, through ``atlas8k predict``: said, no crash, no invented organs."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import numpy as np
import pytest
from tests.content.kit import BODIES, heights, painted
from typer.testing import CliRunner, Result

from abdomen_phantom import STANDARD, generate
from atlas8k.cli import app
from atlas8k.core.errors import NoAbdomenError, VolumeError
from atlas8k.core.volume import Grid, Volume, read_label, write_nifti

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "apps" / "atlas8k" / "model"
GIB = 1 << 20  # ru_maxrss is in KiB


def predict(ct: Path, *options: str) -> tuple[Result, Path]:
    out = ct.parent / "label.nii.gz"
    words = ["predict", str(ct), str(out), "--statistics", "--models", str(MODELS), *options]
    return CliRunner().invoke(app, words), out


def write(folder: Path, volume: Volume) -> Path:
    return write_nifti(folder / "ct.nii.gz", np.rint(volume.array).astype(np.int16), volume.grid)


def refused(ct: Path, *words: str) -> None:
    result, out = predict(ct)
    assert isinstance(result.exception, VolumeError), result.output
    for word in words:
        assert word in str(result.exception)
    assert not out.exists()


@pytest.fixture(scope="module")
def phantom() -> Volume:
    return generate(3, STANDARD, grid_spacing_mm=4.0).ct


def limbs(bone: float = 600.0) -> Volume:
    """Two legs with a bone each, 240 mm high."""
    x, y, _ = np.ogrid[-32:32, -20:20, 0:60]
    array = np.full((64, 40, 60), -1000.0)
    for side in (-14, 14):
        away = np.broadcast_to((x - side) ** 2 + y**2, array.shape)
        array[away < 10**2] = -100.0
        array[away < 8**2] = 55.0
        array[away < 3**2] = bone
    array += np.random.default_rng(0).normal(0, 12, array.shape)
    return Volume(array, Grid(array.shape, np.diag([4.0, 4.0, 4.0, 1.0])))


@pytest.mark.parametrize("subject", ["s0002", "s0003"])
def test_a_head_is_refused(subject: str, tmp_path: Path) -> None:
    path = BODIES / f"{subject}_ct.nii.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    result = CliRunner().invoke(app, ["predict", str(path), str(tmp_path / "label.nii.gz")])
    assert isinstance(result.exception, NoAbdomenError)
    assert "a head or neck" in str(result.exception)
    assert not list(tmp_path.iterdir())


def test_knees_are_refused(tmp_path: Path) -> None:
    refused(write(tmp_path, limbs()), "no abdomen found", "--force")


@pytest.mark.parametrize(("subject", "part"), [("s0004", 0.3), ("s0006", 0.35), ("s0328", 0.3)])
def test_a_pelvis_is_refused_by_what_the_networks_say(
    subject: str, part: float, tmp_path: Path
) -> None:
    ct = write(tmp_path, heights(painted(subject), 0.0, part))
    refused(ct, "no abdomen found", "--force")


def test_three_slices_and_a_topogram_are_refused(phantom: Volume, tmp_path: Path) -> None:
    n = phantom.grid.shape
    few = (slice(0, n[0]), slice(0, n[1]), slice(20, 23))
    refused(write(tmp_path, Volume(phantom.array[few], phantom.grid.crop(few))), "3 axial slices")
    flat = phantom.array.mean(axis=1, keepdims=True)
    topogram = Volume(flat, Grid(flat.shape, phantom.grid.affine))
    refused(write(tmp_path, topogram))


def test_two_thousand_slices_stay_within_memory(phantom: Volume, tmp_path: Path) -> None:
    """A quarter of a millimetre apart, 128 x 128 pixels."""
    array = np.full((128, 128, phantom.grid.shape[2]), -1000, np.int16)
    x, y = (min(128, n) for n in phantom.grid.shape[:2])
    array[:x, :y] = phantom.array[:x, :y]
    array = np.repeat(array, -(-2000 // array.shape[2]), axis=2)[..., :2000]
    spacing = phantom.grid.shape[2] * 4.0 / 2000
    grid = Grid(array.shape, phantom.grid.affine @ np.diag([1.0, 1.0, spacing / 4.0, 1.0]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result, out = predict(write(tmp_path, Volume(array, grid)))
    assert result.exit_code == 0, result.output
    assert read_label(out).array.any()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 3 * GIB


def test_half_an_abdomen_is_predicted_and_said(phantom: Volume, tmp_path: Path) -> None:
    result, out = predict(write(tmp_path, heights(phantom, 0.0, 0.55)))
    assert result.exit_code == 0, result.output
    report = json.loads(out.with_name("label.json").read_text())["familiar"]
    assert "cut above" in " ".join(str(one["value"]) for one in report["features"])
    assert "liver" in report["cut"]["above"]


def test_values_clipped_and_padded_change_no_label(phantom: Volume, tmp_path: Path) -> None:
    labels = []
    x, y = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in phantom.grid.shape[:2])]
    padded = np.where((x * x + y * y > 1)[..., None], -3024, np.clip(phantom.array, -1024, 1023))
    for array in (phantom.array, padded):
        result, out = predict(write(tmp_path, Volume(array, phantom.grid)))
        assert result.exit_code == 0, result.output
        labels.append(read_label(out).array)
    assert "padding of -3024" in result.output
    both = (labels[0] == labels[1])[(labels[0] > 0) | (labels[1] > 0)]
    assert both.mean() > 0.97


def test_a_body_on_its_face_whose_header_does_not_say_so_is_said(
    phantom: Volume, tmp_path: Path
) -> None:
    turned = Volume(phantom.array[::-1, ::-1], phantom.grid)
    result, _ = predict(write(tmp_path, turned), "--force")
    assert result.exit_code == 0, result.output
    assert "patient lies spine in front" in " ".join(result.output.split())
