"""What `atlas8k export` is given and cannot use: said in words, and nothing left half-written.

A full disk: ``test_a_full_disk`` of ``tests/services/exporting/test_export.py``, whose message this
command prints as it is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.services.exporting.kit import ANNA, BEN, Campaign, columns, manifest, mixed, write_ct
from typer.testing import CliRunner

from atlas8k.cli import app
from atlas8k.core.errors import Atlas8kError


@pytest.fixture
def campaign(tmp_path: Path) -> Iterator[Campaign]:
    made = mixed(tmp_path)
    yield made
    made.service.close()


def run(campaign: Campaign, out: str, *words: object) -> str:
    """Export, and return what is printed; the message of a refusal."""
    whole = ["export", campaign.folder / out, "--studies", campaign.studies, *words]
    done = CliRunner().invoke(app, [str(word) for word in whole])
    if isinstance(done.exception, Atlas8kError):
        return str(done.exception)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return " ".join(done.output.replace("│", " ").split())  # a wrong option is said in a frame


def nothing_left(campaign: Campaign, out: str) -> bool:
    """Neither the export nor an unfinished one is there."""
    return (
        not (campaign.folder / out).exists()
        and not (campaign.folder / f"{out}.unfinished").exists()
    )


def test_an_unfinished_campaign(campaign: Campaign):
    said = run(campaign, "out")
    assert "the campaign is not finished (2 not submitted): labels are as they are now" in said
    assert "left out, 2 volumes: no organ passes" in said
    for volume in ("new", "part"):
        campaign.submit(volume, columns("liver"))
    assert "not finished" not in run(campaign, "finished")


def test_a_campaign_without_a_label(tmp_path: Path):
    made = Campaign.begun(tmp_path, "a", "b")
    said = run(made, "out")
    assert "nothing to export: 2 has no label" in said
    assert nothing_left(made, "out")
    made.service.close()


def test_conflicts_and_excluded_volumes(tmp_path: Path):
    made = Campaign.begun(tmp_path, "conflict", "excluded", "fine")
    for volume in ("conflict", "excluded", "fine"):
        made.pseudo(volume, "liver")
        made.public(volume, spleen="present")
    made.service.ledger.lease("conflict", ANNA)
    for who, start in ((ANNA, 1), (BEN, 3)):
        made.submit("conflict", columns("liver", start=start) | columns("spleen"), who)
    made.service.ledger.exclude("excluded", "wrong scan", ANNA)
    said = run(made, "out")
    assert "1 in conflict" in said
    assert "left out, 1 volumes: two submissions contradict each other" in said
    assert "left out, 1 volumes: excluded from the campaign" in said
    assert list(manifest(made.folder / "out")["volumes"]) == ["fine"]
    made.service.close()


def test_a_ct_that_changed_after_its_label(campaign: Campaign):
    ct = campaign.studies / "whole.nii.gz"
    write_ct(ct, 99)
    os.utime(ct, (time.time() + 60,) * 2)
    said = run(campaign, "out")
    assert "left out, 1 volumes: its CT was changed after its label was made" in said
    assert "--accept-changed" in said
    assert not (campaign.folder / "out/whole").exists()


def test_a_target_that_is_there(campaign: Campaign):
    out = campaign.folder / "out"
    out.mkdir()
    (out / "mine").write_text("x")
    assert "is there already; give another name, or move it away" in run(campaign, "out")
    assert [path.name for path in out.iterdir()] == ["mine"]
    assert "lies in the studies folder" in run(campaign, "studies/out")
    assert not list(campaign.studies.glob("out*"))
    (campaign.folder / "other").write_text("a file")
    assert "is there already" in run(campaign, "other")
    assert (campaign.folder / "other").read_text() == "a file"


def test_names_that_are_not_portable(tmp_path: Path):
    made = Campaign.begun(tmp_path, "Müller Anna", "CON", "fine")
    for volume in ("Müller Anna", "CON", "fine"):
        made.public(volume, liver="present")
    said = run(made, "out")
    assert "left out, 1 volumes: its name holds more than A-Z" in said
    assert "left out, 1 volumes: its name is a device's on Windows" in said
    assert "atlas8k export --rename numbers volumes" in said
    assert list(manifest(made.folder / "out")["volumes"]) == ["fine"]
    assert "holds more than" in run(made, "bad", "--rename", "a b")
    assert "holds more than" in run(made, "bad", "--name", "a/b")
    assert nothing_left(made, "bad")
    made.service.close()


def test_dicom_without_its_cts(campaign: Campaign):
    assert "give --cts copy with it" in run(campaign, "out", "--layout", "dicom")
    assert nothing_left(campaign, "out")
