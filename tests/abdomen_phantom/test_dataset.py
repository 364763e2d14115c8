"""A set on disk: complete or absent, kept, and out of MONAI Label's way."""

import json
from dataclasses import replace

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from abdomen_phantom import STANDARD, generate
from abdomen_phantom import write_set as steps
from atlas8k.cli.phantoms import phantoms
from atlas8k.core.errors import VolumeError
from atlas8k.core.volume import read_ct, read_label


def write_set(*arguments):
    return list(steps(*arguments))


SMALL = replace(STANDARD, name="small", in_plane_mm=(6.0, 7.0), thickness_mm=(6.0, 6.0))


def test_files_hold_what_generate_gives(tmp_path):
    written = write_set(tmp_path / "ct", 2, 5, SMALL)
    assert [w.image.name for w in written] == ["phantom_0005.nii.gz", "phantom_0006.nii.gz"]
    phantom = generate(5, SMALL)
    ct, label = read_ct(written[0].image), read_label(written[0].label)
    assert np.array_equal(ct.array, phantom.ct.array)
    assert np.array_equal(label.array, phantom.label.array)
    assert ct.grid.same_as(phantom.ct.grid)
    assert label.grid.same_as(phantom.ct.grid)


def test_only_cts_lie_in_the_studies_folder(tmp_path):
    write_set(tmp_path / "ct", 1, 0, SMALL)
    assert [p.name for p in (tmp_path / "ct").iterdir()] == ["phantom_0000.nii.gz"]
    truth = tmp_path / "ct-truth"
    assert sorted(p.name for p in truth.iterdir()) == ["phantom_0000.nii.gz", "phantoms.json"]
    case = json.loads((truth / "phantoms.json").read_text())["phantoms"]["phantom_0000"]
    assert case["seed"] == 0
    assert case["phase"] in {"pre", "arterial", "portal", "delayed"}


def test_complete_ones_are_kept_and_others_made_anew(tmp_path):
    first = write_set(tmp_path / "ct", 2, 0, SMALL)
    before = [w.image.read_bytes() for w in first]
    stamps = [w.image.stat().st_mtime_ns for w in first]
    assert [w.made for w in write_set(tmp_path / "ct", 3, 0, SMALL)] == [False, False, True]
    first[1].label.unlink()
    first[0].image.write_bytes(b"")
    assert [w.made for w in write_set(tmp_path / "ct", 2, 0, SMALL)] == [True, True]
    assert [w.image.stat().st_mtime_ns for w in first] != stamps
    assert len(before[0]) == first[0].image.stat().st_size


def test_another_version_is_made_anew(tmp_path):
    write_set(tmp_path / "ct", 1, 0, SMALL)
    assert write_set(tmp_path / "ct", 1, 0, replace(SMALL, version=2))[0].made


def test_labels_folder_of_choice_but_never_the_images(tmp_path):
    written = write_set(tmp_path / "ct", 1, 0, SMALL, tmp_path / "elsewhere")
    assert written[0].label.parent == tmp_path / "elsewhere"
    with pytest.raises(VolumeError, match="another"):
        write_set(tmp_path / "ct", 1, 0, SMALL, tmp_path / "ct")


def test_broken_description_is_named(tmp_path):
    (tmp_path / "ct-truth").mkdir()
    (tmp_path / "ct-truth" / "phantoms.json").write_text("{")
    with pytest.raises(VolumeError, match=r"phantoms\.json"):
        write_set(tmp_path / "ct", 1, 0, SMALL)


def test_command(tmp_path):
    app = typer.Typer()
    app.command()(phantoms)
    arguments = [str(tmp_path / "ct"), "--count", "1", "--seed", "10"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "1 made, 0 were there" in result.output
    assert "0 made, 1 were there" in CliRunner().invoke(app, arguments).output
    bad = CliRunner().invoke(app, [*arguments, "--labels", str(tmp_path / "ct")])
    assert bad.exit_code == 1


def test_command_draws_from_the_setting_it_is_told(tmp_path):
    app = typer.Typer()
    app.command()(phantoms)
    arguments = [str(tmp_path / "ct"), "--count", "1", "--seed", "57"]
    result = CliRunner().invoke(app, [*arguments, "--setting", "wide"])
    assert result.exit_code == 0, result.output
    cases = json.loads((tmp_path / "ct-truth" / "phantoms.json").read_text())["phantoms"]
    assert [case["setting"] for case in cases.values()] == ["wide"]
    for wrong in (["--setting", "broad"], ["--shifted", "--setting", "wide"]):
        refused = CliRunner().invoke(app, [*arguments, *wrong])
        assert refused.exit_code == 2
        assert "standard, shifted, wide" in refused.output


def test_phantoms_of_another_setting_are_not_replaced(tmp_path):
    """Somebody may have drawn labels on them."""
    first = write_set(tmp_path / "ct", 1, 0, SMALL)[0].image.read_bytes()
    with pytest.raises(VolumeError, match="of setting small, not other"):
        write_set(tmp_path / "ct", 1, 0, replace(SMALL, name="other"))
    assert (tmp_path / "ct" / "phantom_0000.nii.gz").read_bytes() == first
