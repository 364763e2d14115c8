"""Exports as a server runs them: a process each, which is followed, stopped and gone on with."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from tests.services.exporting.kit import Campaign, manifest, mixed

from atlas8k.services.errors import ConflictError, NotFoundError, RequestError
from atlas8k.services.exporting.export import ExportSettings
from atlas8k.services.exporting.exports import Exports

LIMIT_S = 120


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    return mixed(tmp_path)


def exports_of(campaign: Campaign) -> Exports:
    return Exports(campaign.studies, campaign.service.ledger.path)


def ended(exports: Exports) -> str:
    end = time.monotonic() + LIMIT_S
    while exports.state()["running"]:
        assert time.monotonic() < end
        time.sleep(0.1)
    return str(exports.state()["text"])


def test_an_export_with_its_datasheet(campaign: Campaign) -> None:
    exports = exports_of(campaign)
    assert exports.state()["text"] == "Nothing is being exported."
    out = exports.start("first", ExportSettings(require="any", split="paper"))
    assert out == campaign.folder / "studies-exports" / "first"
    with pytest.raises(ConflictError, match="is being exported"):
        exports.start("second", ExportSettings())
    text = ended(exports)
    assert f"first: 4 volumes, 33 organs, in {out}" in text
    assert exports.state()["datasheet"] == "first"
    assert (out / "manifest.json").is_file()
    assert b"<svg" in exports.datasheet("first").read_bytes()
    assert [one[:3] for one in exports.finished()] == [("first", str(out), False)]
    with pytest.raises(ConflictError, match="is there already"):
        exports.start("first", ExportSettings())
    with pytest.raises(NotFoundError):
        exports.datasheet("second")


def test_patients_of_the_server_stay_together(campaign: Campaign) -> None:
    names = ("new", "part", "seen", "whole")
    table = campaign.folder / "patients.csv"
    table.write_text("volume,patient\n" + "".join(f"{name},one\n" for name in names))
    for number, (patients, sets) in enumerate([(None, 2), (table, 1)]):
        made = mixed_again(campaign, number)
        exports = Exports(made.studies, made.service.ledger.path, patients=patients)
        out = exports.start("split", ExportSettings(require="any", split="paper"))
        ended(exports)
        found = {one["split"] for one in manifest(out)["volumes"].values()}
        assert len(found) == sets, found


def mixed_again(campaign: Campaign, number: int) -> Campaign:
    """The same campaign, split by nobody yet."""
    folder = campaign.folder / f"campaign{number}"
    folder.mkdir()
    return mixed(folder)


def test_reasons_name_the_command(campaign: Campaign) -> None:
    ct = campaign.studies / "whole.nii.gz"
    os.utime(ct, (time.time() + 60,) * 2)
    exports = exports_of(campaign)
    exports.start("first", ExportSettings())
    text = ended(exports)
    assert "atlas8k export --accept-changed takes it then" in text
    assert "give --" not in text


def test_what_is_wrong_is_said(campaign: Campaign) -> None:
    exports = exports_of(campaign)
    for name in ("../evil", "a/b", "con", "x.unfinished", "x" * 65):
        with pytest.raises(RequestError):
            exports.start(name, ExportSettings())
    exports.folder.write_text("a file where the folder would be")
    with pytest.raises(ConflictError, match="cannot be written to"):
        exports.start("first", ExportSettings())


def test_one_that_is_stopped_goes_on(campaign: Campaign) -> None:
    exports = exports_of(campaign)
    exports.start("first", ExportSettings(require="any"))
    assert exports.stop()
    assert "the same export goes on" in ended(exports)
    assert not exports.stop()
    exports.start("first", ExportSettings(require="any"))
    assert "4 volumes" in ended(exports)
