"""What `atlas8k doctor` finds in a folder, what it says to do, and that --fix does it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import typer
from tests import apart
from tests.services.labels.test_crash import Folder, killed_before_it_is_recorded
from tests.services.labels.test_integrity import flip, kept, served
from tests.services.test_backups import ANNA, another, begun, look, place_of, submit
from typer.testing import CliRunner, Result

from atlas8k.cli.backup import backup, restore
from atlas8k.cli.doctor import doctor
from atlas8k.core.errors import Atlas8kError
from atlas8k.core.files import only_one
from atlas8k.services.backups.make import make_backup
from atlas8k.services.backups.target import BackupTarget
from atlas8k.store import locate

app = typer.Typer()
for command in (backup, restore, doctor):
    app.command()(command)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A case that Anna has submitted."""
    folder = Folder(tmp_path)
    begun(folder)
    with closing(folder.open()) as service:
        service.ledger.add_volumes(["chest"])
        service.ledger.exclude("chest", "a chest CT", ANNA)
        submit(service, folder.hers)
    return folder


@pytest.fixture
def models(tmp_path: Path) -> Path:
    source = Path(__file__).parents[2] / "apps" / "atlas8k" / "model"
    return Path(shutil.copytree(source, tmp_path / "model"))


def run(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def lose_ledger(folder: Folder, left: bytes | None = None) -> Path:
    path = locate(str(folder.path))
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    if left is not None:
        path.write_bytes(left)
    return path


def damage_page(folder: Folder) -> None:
    path = locate(str(folder.path))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page = connection.execute("PRAGMA page_size").fetchone()[0]
        root = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'submission_organ'"
        ).fetchone()[0]
    with open(path, "r+b") as stream:
        stream.seek(page * (root - 1))
        stream.write(b"\x55" * page)


def test_of_a_whole_folder_nothing_is_said_but_advice(
    folder: Folder, models: Path, tmp_path: Path
) -> None:
    doctor_ = ("doctor", "--studies", folder.path, "--models", models)
    out = run(*doctor_).output
    assert "advice: no backup was ever made" in out
    assert "nothing is wrong" in out
    run("backup", tmp_path / "b", "--studies", folder.path, "--models", models)
    assert run(*doctor_).output.strip() == f"{folder.path}: nothing is wrong"
    assert json.loads(run(*doctor_, "--json").stdout) == []


DAMAGE: dict[str, tuple[Callable[[Folder], object], str]] = {
    "edited": (lambda f: flip(served(f), silently=False), "its hash is another"),
    "flipped": (lambda f: flip(kept(f)), "its hash is another"),
    "deleted": (lambda f: shutil.rmtree(f.path / "labels" / "final"), "is gone"),
    "ledger is lost": (lose_ledger, "the ledger is missing"),
    "ledger is empty": (lambda f: lose_ledger(f, b""), "the ledger is empty"),
    "ledger is no ledger": (lambda f: lose_ledger(f, b"no database" * 99), "not a ledger"),
    "ledger is damaged": (damage_page, "damaged"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_each_damage_is_named_and_mended(folder: Folder, models: Path, name: str) -> None:
    before = look(folder.path)
    damage, words = DAMAGE[name]
    damage(folder)
    files = {path: path.read_bytes() for path in folder.path.rglob("*.nii.gz")}
    ledger = locate(str(folder.path))
    lost = name in ("ledger is lost", "ledger is empty", "ledger is no ledger")
    was = ledger.read_bytes() if lost and ledger.exists() else None
    doctor_ = ("doctor", "--studies", folder.path, "--models", models)
    out = run(*doctor_, code=1).output
    assert words in out
    assert "to do: " in out
    assert {path: path.read_bytes() for path in folder.path.rglob("*.nii.gz")} == files
    if lost:
        assert (ledger.read_bytes() if ledger.exists() else None) == was
    out = run(*doctor_, "--fix").output
    assert "mended: " in out
    assert "nothing is wrong any more" in out
    # Whatever was there is there still, somewhere.
    there = [path.read_bytes() for path in folder.path.rglob("*") if path.is_file()]
    assert all(data in there for data in files.values())
    assert not was or was in there
    assert run(*doctor_).exit_code == 0
    after = look(folder.path)
    if "ledger" in name:  # numbers of versions are those of the new ledger
        for one in (before, after):
            one["versions"] = {v.sha256 for v in one["versions"]}
        # What people did is in a backup; the new trail begins with why there is no earlier one.
        assert after.pop("audit")[-1][0] == "rebuilt"
        del before["audit"]
        for tag in ("final", "original", "pseudo"):
            before[tag] = after[tag] = None
        if "damaged" not in name:
            before["reviews"] = after["reviews"] = []
    assert after == before


def test_what_is_damaged_in_both_places_comes_back_from_a_backup(
    folder: Folder, models: Path, tmp_path: Path
) -> None:
    make_backup(tmp_path / "b", place_of(folder.path, models))
    before = look(folder.path)
    flip(kept(folder))
    flip(served(folder))
    doctor_ = ("doctor", "--studies", folder.path, "--models", models, "--fix")
    out = run(*doctor_, code=1).output
    assert out.count("give --backup too") == 2
    assert "2 findings are left" in out
    flip(BackupTarget(tmp_path / "b").file(kept(folder).name[:-7].partition("-")[2]))
    run(*doctor_, "--backup", tmp_path / "b", code=1)  # that one is damaged as well
    shutil.rmtree(tmp_path / "b")
    make_backup(tmp_path / "b", place_of(folder.path, models))
    run(*doctor_, "--backup", tmp_path / "b", code=1)  # and this one was made too late
    with pytest.raises(Atlas8kError, match="no folder of backups"):
        run(*doctor_, "--backup", tmp_path)
    assert look_again(folder) != before


def look_again(folder: Folder) -> object:
    with closing(folder.open()) as service:
        return service.ledger.statuses()


def test_a_backup_mends_what_has_no_other_copy(
    folder: Folder, models: Path, tmp_path: Path
) -> None:
    make_backup(tmp_path / "b", place_of(folder.path, models))
    before = look(folder.path)
    shutil.rmtree(folder.path / "labels")
    doctor_ = ("doctor", "--studies", folder.path, "--models", models, "--fix")
    run(*doctor_, code=1)
    run(*doctor_, "--backup", tmp_path / "b")
    assert look(folder.path) == before


def test_a_ledger_that_is_older_than_its_labels_is_noticed(
    folder: Folder, models: Path, tmp_path: Path
) -> None:
    path = locate(str(folder.path))
    with closing(folder.open()) as service:
        service.ledger.backup(tmp_path / "older.sqlite")
        submit(service, another(tmp_path, 1))
    lose_ledger(folder)
    shutil.copy(tmp_path / "older.sqlite", path)
    out = run("doctor", "--studies", folder.path, "--models", models, "--fix", code=1).output
    assert "1 submitted label files are not in the ledger" in out
    assert "ledger rebuild --replace" in out


def test_a_file_of_a_killed_submission_is_no_fault_once_it_was_sent_again(
    folder: Folder, models: Path, tmp_path: Path
) -> None:
    shutil.rmtree(folder.path / "labels")
    shutil.rmtree(folder.path / ".atlas8k")
    begun(folder)
    killed_before_it_is_recorded(folder)
    doctor_ = ("doctor", "--studies", folder.path, "--models", models)
    assert "not in the ledger" in run(*doctor_, code=1).output
    with closing(folder.open()) as service:
        submit(service, folder.hers)
    assert "1 label files were written and never recorded" in run(*doctor_).output


def test_under_a_running_server_labels_are_mended_and_no_ledger_is_made(
    folder: Folder, models: Path
) -> None:
    doctor_ = ("doctor", "--studies", folder.path, "--models", models, "--fix")
    flip(served(folder))
    with only_one(folder.path / ".atlas8k" / "server.lock"):
        assert "put back from" in run(*doctor_).output
        path = lose_ledger(folder)
        done = subprocess.run(
            [sys.executable, "-m", "atlas8k", *map(str, doctor_)],
            capture_output=True,
            text=True,
            timeout=apart.LIMIT_S,
            check=False,
        )
        assert done.returncode == 1
        assert "stop the server" in done.stdout + done.stderr
        assert not path.exists()


def test_networks_that_cannot_be_used_are_named(folder: Folder, models: Path) -> None:
    for path in (models / "embedded").glob("*.safetensors"):
        path.unlink()
    out = run("doctor", "--studies", folder.path, "--models", models, code=1).output
    assert "no network can be used" in out


def test_a_folder_that_is_missing_or_a_link_is_said(folder: Folder, tmp_path: Path) -> None:
    assert "no such folder" in run("doctor", "--studies", tmp_path / "x", code=1).output
    (folder.path / "labels" / "final").rename(tmp_path / "final")
    (folder.path / "labels" / "final").symlink_to(tmp_path / "final")
    assert "is a link to" in run("doctor", "--studies", folder.path, code=1).output


def test_commands_say_what_was_done(folder: Folder, models: Path, tmp_path: Path) -> None:
    where = ("--models", models, "--studies")
    out = run("backup", tmp_path / "b", *where, folder.path).output
    assert "files, of which" in out
    listed = run("restore", tmp_path / "b", "--list").output
    assert listed.count("files of") == 1
    other = tmp_path / "other"
    name = listed.split()[0]
    out = run("restore", tmp_path / "b", *where, other, "--at", name).output
    assert f"{other}: backup {name} is restored" in out
    run("doctor", *where, other)
    with pytest.raises(Atlas8kError, match="--replace"):
        run("restore", tmp_path / "b", *where, other)
    assert (
        "What was there before" in run("restore", tmp_path / "b", *where, other, "--replace").output
    )
    with pytest.raises(Atlas8kError, match="there is no ledger yet"):
        run("backup", tmp_path / "b", "--studies", tmp_path / "model")
