"""``atlas8k predict``: NIfTI and DICOM, the report, the picture, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tests.headers import write_header
from tests.server.tiny import GRID, NETWORKS, checkpoint, write_ct, write_networks
from typer.testing import CliRunner

from atlas8k.cli import app
from atlas8k.cli.predict import read_input
from atlas8k.core.errors import (
    GeometryError,
    NoAbdomenError,
    NotHounsfieldError,
    SettingsError,
    VolumeError,
)
from atlas8k.core.grid import Grid
from atlas8k.core.structures import ORGAN_NAMES, ORGANS
from atlas8k.core.volume import read_ct, read_label, write_nifti
from atlas8k.formats.dicom import inspect, read_headers, write_series
from atlas8k.models.checkpoint import save_checkpoint

GAIN = 8.0
LEANING = {"swin_unetr": 0.0, "unet": 0.5, "nnunet": 2.0}
DATA = Path(os.environ.get("ATLAS8K_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks of random weights, sure of what they say, that lean towards the liver."""
    folder = write_networks(tmp_path_factory.mktemp("predict") / "model")
    for name in NETWORKS:
        network = checkpoint(name)
        network.state["model.2.conv.weight"][:] *= GAIN
        liver = ORGAN_NAMES.index("liver") + (network.activation == "softmax")
        network.state["model.2.conv.bias"][liver] += LEANING[name]
        save_checkpoint(folder / "embedded" / f"{name}.safetensors", network)
    return folder


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ct(tmp_path_factory.mktemp("predict") / "case.nii.gz")


def run(*arguments: object):
    return CliRunner().invoke(app, ["predict", *map(str, arguments)])


@pytest.fixture(scope="module")
def done(ct: Path, models: Path) -> Path:
    """The folder of one prediction of a NIfTI file, with everything that is written."""
    out = ct.parent / "label.nii.gz"
    result = run(ct, out, "--preview", "--statistics", "--models", models)
    assert result.exit_code == 0, result.output
    assert "pancreas" in result.output
    return ct.parent


def test_what_is_written(done: Path) -> None:
    label, report = read_label(done / "label.nii.gz"), json.loads((done / "label.json").read_text())
    assert label.grid.same_as(GRID)
    assert label.array.any()
    assert report["ct"] == "case.nii.gz"
    assert report["networks"] == ["swin_unetr", "unet", "nnunet"]
    assert report["left_out"] == {}
    assert report["settings"] == {}
    assert report["familiar"]["like"] is None  # of these networks nothing is known
    assert {"phase", "noise_hu"} <= {one["name"] for one in report["familiar"]["features"]}
    assert report["grid"]["shape"] == list(GRID.shape)
    assert report["files"] == {
        "label": "label.nii.gz",
        "preview": "label.png",
        "statistics": "label.json",
    }
    assert "series_uid" not in report


def test_statistics_are_those_of_the_label(done: Path) -> None:
    label, hu = read_label(done / "label.nii.gz").array, read_ct(done / "case.nii.gz").array
    organs = json.loads((done / "label.json").read_text())["organs"]
    assert tuple(organs) == ORGAN_NAMES
    for organ in ORGANS:
        mask = label == organ.id
        assert organs[organ.name]["ml"] == pytest.approx(mask.sum() * GRID.voxel_ml, abs=0.01)
        if mask.any():
            assert organs[organ.name]["mean_hu"] == pytest.approx(hu[mask].mean(), abs=0.1)
        else:
            assert organs[organ.name]["mean_hu"] is None


@pytest.fixture(scope="module")
def series(ct: Path) -> Path:
    """The same CT as two DICOM series in one folder, and one that is none."""
    folder = ct.parent / "dicom"
    volume = read_ct(ct)
    for number, name in enumerate(("arterial", "venous"), 1):
        write_series(
            folder / name,
            volume.array,
            volume.grid,
            seed=name,
            study="s",
            description=name,
            number=number,
        )
    paths = write_series(
        folder / "gap", volume.array, volume.grid, seed="gap", study="s", description="gap"
    )
    paths[5].unlink()
    return folder


def test_a_dicom_series_gives_the_same_as_its_nifti(done: Path, series: Path, models: Path) -> None:
    out = series.parent / "series.nii.gz"
    result = run(series / "venous", out, "--statistics", "--models", models)
    assert result.exit_code == 0, result.output
    report = json.loads((series.parent / "series.json").read_text())
    (venous,) = inspect(read_headers(series / "venous"))
    assert report["series_uid"] == venous.uid
    assert report["study_uid"] == venous.study_uid
    assert "Phantom" not in json.dumps(report)  # the patient's name in these files
    found, before = read_label(out), read_label(done / "label.nii.gz")
    assert found.grid.same_as(venous.grid)
    usual = json.loads((done / "label.json").read_text())["organs"]
    for name, row in report["organs"].items():
        assert row["ml"] == pytest.approx(usual[name]["ml"], rel=0.02, abs=10)
    assert np.count_nonzero(found.array) == pytest.approx(np.count_nonzero(before.array), rel=0.02)


def test_of_several_series_one_is_named(series: Path, models: Path) -> None:
    out = series.parent / "one.nii.gz"
    result = run(series, out, "--models", models)
    assert isinstance(result.exception, VolumeError)
    for word in ("arterial", "venous", "--series"):
        assert word in str(result.exception)
    uid = inspect(read_headers(series / "venous"))[0].uid
    assert run(series, out, "--series", uid, "--models", models).exit_code == 0
    gap = inspect(read_headers(series / "gap"))[0].uid
    result = run(series, out, "--series", gap, "--models", models)
    assert "lacks 1 slice" in str(result.exception)
    assert "venous" in str(result.exception)


def test_a_series_of_a_nifti_file_is_refused(ct: Path, models: Path) -> None:
    result = run(ct, ct.parent / "x.nii.gz", "--series", "1.2.3", "--models", models)
    assert isinstance(result.exception, SettingsError)
    assert not (ct.parent / "x.nii.gz").exists()


def test_without_a_name_the_label_is_named_after_the_ct(
    ct: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(ct, "--models", models).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["case_organs.nii.gz"]


def test_weights_change_label_and_model_version_and_are_checked(
    done: Path, ct: Path, models: Path
) -> None:
    out = ct.parent / "weighted.nii.gz"
    options = ("--weights", "unet=0,swin_unetr=0", "--statistics", "--models", models)
    assert run(ct, out, *options).exit_code == 0
    report = json.loads((ct.parent / "weighted.json").read_text())
    usual = json.loads((done / "label.json").read_text())
    assert report["settings"] == {"ensemble_weights": "swin_unetr=0,unet=0"}
    assert report["model_version"] != usual["model_version"]
    assert report["organs"] != usual["organs"]
    for text in ("vnet=1", "unet=-1", "unet:livr=2"):
        result = run(ct, out, "--weights", text, "--models", models)
        assert isinstance(result.exception, SettingsError)


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the real data beside the project")
@pytest.mark.parametrize(
    ("name", "shape", "codes"),
    [
        ("totalsegmentator-example/ct.nii.gz", (122, 101, 112), "RAS"),
        ("cptac-pda-dicom", (512, 512, 35), "LPS"),
        ("dcmqi-seg/ct-3slice", (512, 512, 3), "LPS"),
    ],
)
def test_real_cts_keep_their_own_geometry(
    name: str, shape: tuple[int, int, int], codes: str, models: Path, tmp_path: Path
) -> None:
    out = tmp_path / "label.nii.gz"
    result = run(DATA / name, out, "--statistics", "--force", "--models", models)
    assert result.exit_code == 0, result.output
    label = read_label(out)
    volume, source, _ = read_input(DATA / name)
    assert label.grid.same_as(volume.grid)
    assert (label.grid.shape, label.grid.orientation) == (shape, codes)
    report = json.loads((tmp_path / "label.json").read_text())
    assert report.get("series_uid") == source.get("series_uid")
    assert (report.get("series_uid") is None) == name.endswith(".gz")


def test_two_geometries_are_named_and_the_stated_one_is_used(
    ct: Path, models: Path, tmp_path: Path
) -> None:
    image = nib.load(ct)
    other = image.affine.copy()
    other[0, 3] += 30
    path = tmp_path / "two.nii.gz"
    image.set_sform(image.affine, 1)
    image.set_qform(other, 1)
    nib.save(image, path)
    for words, due, level in (
        ((), image.affine, "warning"),
        (("--orientation", "qform"), other, "note"),
    ):
        out = tmp_path / "label.nii.gz"
        result = run(path, out, "--statistics", "--models", models, *words)
        assert result.exit_code == 0, result.output
        said = " ".join(result.output.split())
        assert "two geometries in one file" in said
        assert "up to 30 mm apart" in said
        np.testing.assert_allclose(read_label(out).grid.affine, due, atol=1e-4)
        remarks = json.loads((tmp_path / "label.json").read_text())["remarks"]
        assert ("two_geometries", level) in {(one["kind"], one["level"]) for one in remarks}


def test_a_ct_without_geometry_is_refused_unless_its_axes_are_stated(
    ct: Path, models: Path, tmp_path: Path
) -> None:
    volume = read_ct(ct)
    path = write_header(
        tmp_path / "ct.nii.gz", None, None, (0, 0), volume.array, {"pixdim": GRID.spacing}
    )
    out = tmp_path / "label.nii.gz"
    result = run(path, out, "--models", models)
    assert isinstance(result.exception, GeometryError)
    assert "--orientation RAS" in str(result.exception)
    assert not out.exists()
    result = run(path, out, "--models", models, "--orientation", GRID.orientation.lower())
    assert result.exit_code == 0, result.output
    # As of the CT that says it itself, at another place.
    whole = tmp_path / "whole.nii.gz"
    assert run(ct, whole, "--models", models).exit_code == 0
    np.testing.assert_array_equal(read_label(out).array, read_label(whole).array)
    assert read_label(out).grid.orientation == GRID.orientation
    result = run(path, out, "--models", models, "--orientation", "up")
    assert isinstance(result.exception, SettingsError)


def test_values_that_are_no_hu_are_refused_unless_forced(ct: Path, models: Path) -> None:
    volume = read_ct(ct)
    shifted = write_nifti(ct.parent / "shifted.nii.gz", volume.array + 1024, volume.grid)
    out = ct.parent / "shifted_label.nii.gz"
    result = run(shifted, out, "--models", models)
    assert isinstance(result.exception, NotHounsfieldError)
    assert str(result.exception).startswith(
        "shifted.nii.gz: values look shifted by about +1024: air at 24 HU. "
        "Export the CT again in HU,"
    )
    assert "--force" in str(result.exception)
    assert not out.exists()
    result = run(shifted, out, "--statistics", "--force", "--models", models)
    assert result.exit_code == 0, result.output
    report = json.loads(out.with_name("shifted_label.json").read_text())
    assert [(one["kind"], one["level"]) for one in report["remarks"]] == [("not_hu", "blocked")]


def test_a_ct_without_an_abdomen_is_refused_unless_forced(ct: Path, models: Path) -> None:
    volume = read_ct(ct)
    box = (slice(0, GRID.shape[0]), slice(0, GRID.shape[1]), slice(8, 10))
    few = write_nifti(ct.parent / "few.nii.gz", volume.array[box][:, :, :1].repeat(3, 2), Grid(
        (GRID.shape[0], GRID.shape[1], 3), np.diag([-12.0, 12.0, 5.0, 1.0])))  # fmt: skip
    out = ct.parent / "few_label.nii.gz"
    result = run(few, out, "--models", models)
    assert isinstance(result.exception, NoAbdomenError)
    assert "it has 3 axial slices over 15 mm" in str(result.exception)
    assert "--force" in str(result.exception)
    assert not out.exists()
    result = run(few, out, "--statistics", "--force", "--models", models)
    assert result.exit_code == 0, result.output
    assert "no abdomen found: it has 3 axial slices over 15 mm" in result.output
    report = json.loads(out.with_name("few_label.json").read_text())
    assert [one["kind"] for one in report["remarks"]] == ["no_abdomen"]
