from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from atlas8k.cli import app
from atlas8k.store import Holder, Ledger, locate

ANNA = Holder.identify(user="anna")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["audit", *map(str, arguments)])


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    folder = tmp_path / "studies"
    folder.mkdir()
    with closing(Ledger(locate(str(folder)))) as ledger:
        ledger.sync_volumes(["MUELLER"])
        ledger.lease("MUELLER", ANNA)
        ledger.exclude("MUELLER", "motion", ANNA)
    return folder


def test_what_is_exported_verifies(studies: Path, tmp_path: Path) -> None:
    target = tmp_path / "trail.jsonl"
    done = run("export", target, "--studies", studies)
    assert done.exit_code == 0, done.output
    lines = target.read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [one["action"] for one in records] == ["begun", "sample", "exclude", "export"]
    assert "MUELLER" not in target.read_text()
    head = done.output.split()[-1]
    assert head == f"4:{records[-1]['sha256']}"
    for where in ([target], ["--studies", studies]):
        found = run("verify", *where, "--noted", head)
        assert found.exit_code == 0, found.output
        assert "4 records, all as they were written" in found.output
        assert found.output.split()[-1] == head


def test_what_was_changed_does_not(studies: Path, tmp_path: Path) -> None:
    target = tmp_path / "trail.jsonl"
    head = run("export", target, "--studies", studies).output.split()[-1]
    lines = target.read_text().splitlines(keepends=True)
    for changed, words in (
        ([lines[0], lines[1].replace("anna", "anne"), *lines[2:]], "record 2: was changed"),
        ([lines[0], *lines[2:]], "record 2: the one that is here has number 3"),
        ([lines[1], lines[0], *lines[2:]], "record 1: the one that is here has number 2"),
    ):
        target.write_text("".join(changed))
        done = run("verify", target)
        assert done.exit_code == 1
        assert words in done.output
    target.write_text("".join(lines[:-1]))
    assert run("verify", target).exit_code == 0  # its end was cut off
    done = run("verify", target, "--noted", head)
    assert done.exit_code == 1
    assert "record 4 is not the one that was noted, or is gone" in done.output


def test_what_cannot_be_read_is_said(studies: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for arguments, words in (
        (["verify", tmp_path / "none"], "cannot be read"),
        (["verify", "--noted", "x", "--studies", studies], "number and hash of a record"),
        (["export", tmp_path / "file" / "trail.jsonl", "--studies", studies], "cannot be written"),
        (["verify", "--studies", tmp_path / "none"], "there is no such folder"),
    ):
        done = run(*arguments)
        assert done.exit_code != 0
        assert words in str(done.exception)
