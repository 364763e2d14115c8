"""A split says of how many CTs near-duplicates are not known, wherever somebody reads it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.services.exporting.kit import Campaign, mixed
from typer.testing import CliRunner

from atlas8k.cli import app
from atlas8k.reports.tables import Table
from atlas8k.services.exporting.datasheet import read_manifest, tables_of
from atlas8k.services.exporting.job import run
from atlas8k.store import alike, volumes

SAID = "of 2 CTs were not compared with the others: `atlas8k cts duplicates` first"


@pytest.fixture
def campaign(tmp_path: Path) -> Iterator[Campaign]:
    made = mixed(tmp_path)
    yield made
    made.service.close()


def compare(campaign: Campaign, *names: str) -> None:
    """Enter what `atlas8k cts duplicates` does for CTs that are alike no other."""
    folder = campaign.service.folder
    cells = {}
    with folder.ledger.write() as tx:
        for name in names:
            file = folder.fingerprint(name)
            assert file is not None
            alike.keep(tx, name, file, b"cells")
            cells[volumes.volume_row(tx, name)] = b"cells"
        assert alike.keep_compared(tx, cells, cells, [])


def command(campaign: Campaign, out: str, *words: str) -> str:
    whole = ["export", str(campaign.folder / out), "--studies", str(campaign.studies), *words]
    done = CliRunner().invoke(app, whole)
    assert done.exit_code == 0, done.output
    return done.output


def tables(out: Path) -> dict[str, Table]:
    return {table.name: table for table in tables_of(read_manifest(out))}


def page(campaign: Campaign, name: str) -> str:
    settings = {"name": name, "split": "paper"}
    job = {
        "studies": str(campaign.studies),
        "ledger": str(campaign.service.ledger.path),
        "out": str(campaign.folder / name),
        "settings": settings,
    }
    return str(run(job)["not_compared"])


def test_what_was_not_compared_is_said(campaign: Campaign) -> None:
    assert f"2 {SAID}" in command(campaign, "none", "--split", "paper")
    assert page(campaign, "none_page") == f"2 {SAID}"
    caption = tables(campaign.folder / "none")["split"].caption
    assert f"2 {SAID}" in caption
    assert "near-duplicates, are in one set" not in caption
    compare(campaign, "part")
    assert f"1 {SAID}" in command(campaign, "one", "--split", "paper")
    # One that changed since is not compared as it is now.
    compare(campaign, "part", "whole", "new", "seen")
    ct = campaign.studies / "whole.nii.gz"
    before = ct.read_bytes()
    ct.write_bytes(before + b"\0")
    campaign.service.folder.refresh()
    assert f"1 {SAID}" in command(campaign, "changed", "--split", "paper", "--accept-changed")


def test_nothing_is_said_where_all_were(campaign: Campaign) -> None:
    compare(campaign, "part", "whole", "new", "seen")
    assert "not compared" not in command(campaign, "all", "--split", "paper")
    assert page(campaign, "all_page") == ""
    assert "near-duplicates, are in one set" in tables(campaign.folder / "all")["split"].caption
    # Nor where nothing is split, and then nothing is claimed.
    assert "not compared" not in command(campaign, "whole")
    assert "not split" in tables(campaign.folder / "whole")["split"].caption


def test_an_older_manifest_claims_nothing(campaign: Campaign) -> None:
    compare(campaign, "part", "whole", "new", "seen")
    command(campaign, "all", "--split", "paper")
    rows = read_manifest(campaign.folder / "all").drop(columns="compared")
    (split,) = [table for table in tables_of(rows) if table.name == "split"]
    assert "is not known" in split.caption
    assert "near-duplicates" not in split.caption


def test_classes_that_lack_by_set_and_source(campaign: Campaign) -> None:
    command(campaign, "out", "--split", "1/0/1")
    found = tables(campaign.folder / "out")["missing"]
    sets = [name for name in found.columns if name.startswith("set ")]
    assert found.columns == ("organ", "all, of 2", *sets, "from BTCV, of 2")
    assert sets == ["set train, of 1", "set test, of 1"]
    rows = {row[0]: row[1:] for row in found.rows}
    assert rows["liver"] == ("0", "0", "0", "0")
    # Of `part` the liver alone is known; of `whole` every organ.
    assert rows["aorta"][0] == rows["aorta"][3] == "1"
    assert sorted(rows["aorta"][1:3]) == ["0", "1"]
    command(campaign, "unsplit")
    found = tables(campaign.folder / "unsplit")["missing"]
    assert found.columns == ("organ", "all, of 2", "from BTCV, of 2")
