"""A campaign backed up while it is worked on, killed half-way, and restored elsewhere."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.faults import at_every_step
from tests.services.labels.test_crash import PUBLIC, Folder, begun, submit
from tests.services.labels.test_integrity import details, flip, kept, served
from tests.services.labels.test_label_service import ANNA, BEN, GRID, slabs

from atlas8k.core.files import only_one, write_json
from atlas8k.core.volume import write_nifti
from atlas8k.services.backups.make import last_backup, make_backup
from atlas8k.services.backups.place import Place, note_settings
from atlas8k.services.backups.restore import restore_backup
from atlas8k.services.backups.target import BackupError, BackupTarget
from atlas8k.services.labels.integrity import LabelIntegrity
from atlas8k.services.labels.service import LabelService
from atlas8k.store import LedgerLostError, locate
from atlas8k.store.schema import VERSION


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path)
    begun(folder)
    with closing(folder.open()) as service:
        service.keep_public("a", slabs(liver=(1, 5)), GRID, PUBLIC)
        submit(service, folder.hers)
        submit(service, folder.his, BEN)
        service.ledger.add_volumes(["chest"])
        service.ledger.exclude("chest", "a chest CT", ANNA)
    return folder


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Published, imported and embedded networks; only what a backup looks at."""
    folder = tmp_path / "model"
    for name in ("embedded/unet.safetensors", "1234/unet.safetensors", "imported/x.safetensors"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 100)
    write_json(folder / "1234" / "set.json", {"published": "2026"})
    write_json(folder / "served.json", {"served": "1234"})
    (folder / "training-state").mkdir()
    (folder / "training-state" / "big").write_bytes(b"not backed up")
    return folder


def place_of(path: Path, models: Path) -> Place:
    return Place.of(str(path), None, models, models)


def look(path: Path) -> dict[str, Any]:
    with closing(LabelService.open(path)) as service:
        found = details(service)
        # That it was backed up is recorded, before its copy is made.
        found["audit"] = [one for one in found["audit"] if one[0] != "export"]
        found["excluded"] = service.ledger.usability("chest")
        found["versions"] = service.folder.index.label_versions("a")
        assert list(LabelIntegrity(service.folder).check(["a"], mend=False)) == []
    return found


def another(folder: Path, number: int) -> Path:
    """A label that nobody has submitted yet."""
    array = slabs(liver=(1, 5))
    array[6 + number % 6, :9, 1 + number // 6 % 8] = 8
    array[11, number % 10] = 9
    return write_nifti(folder / f"sent-{number}.nii.gz", array, GRID)


def files_of(target: Path) -> dict[str, float]:
    return {str(p): p.stat().st_mtime_ns for p in (target / "files").rglob("*") if p.is_file()}


def test_a_restored_campaign_is_what_it_was(folder: Folder, models: Path, tmp_path: Path) -> None:
    """On another path, with other inodes, and without what was there before."""
    rejected = folder.path / "labels" / "rejected"
    rejected.mkdir()
    (rejected / "x.nii.gz").write_bytes(b"waits")
    (folder.path / "labels" / "final" / "own.nii.gz").write_bytes(b"of somebody else")
    before = look(folder.path)
    made = make_backup(tmp_path / "backups", place_of(folder.path, models))
    assert made.backup.damaged == {}
    inodes = {path.stat().st_ino for path in folder.path.rglob("*.nii.gz")}
    for gone in (folder.path, models):
        shutil.move(gone, tmp_path / f"away-{gone.name}")
    other, other_models = tmp_path / "other" / "cts", tmp_path / "other" / "model"
    other.mkdir(parents=True)
    shutil.copy(tmp_path / "away-studies" / "a.nii.gz", other)  # CTs come back by themselves
    done = restore_backup(tmp_path / "backups", place_of(other, other_models))
    assert (done.damaged, done.aside) == ({}, [])
    assert look(other) == before
    assert not inodes & {path.stat().st_ino for path in other.rglob("labels/**/*.nii.gz")}
    assert (other / "labels" / "rejected" / "x.nii.gz").read_bytes() == b"waits"
    assert (other / "labels" / "final" / "own.nii.gz").read_bytes() == b"of somebody else"
    there = {str(p.relative_to(other_models)) for p in other_models.rglob("*") if p.is_file()}
    assert there == {
        "1234/unet.safetensors", "1234/set.json", "imported/x.safetensors", "served.json",
    }  # fmt: skip
    assert "come with this program are others" in done.notes[0]  # here there are none
    with closing(LabelService.open(other)) as service:  # and it goes on
        assert submit(service, folder.his, BEN).again
        submit(service, folder.hers, ANNA)


def test_what_a_backup_has_is_not_copied_again(
    folder: Folder, models: Path, tmp_path: Path
) -> None:
    target, place = tmp_path / "backups", place_of(folder.path, models)
    first = make_backup(target, place)
    files = files_of(target)
    with closing(folder.open()) as service:
        submit(service, another(tmp_path, 0))
        at = last_backup(service.ledger)
        assert at is not None
        assert at[1] == str(target)
    second = make_backup(target, place)
    # The submission and the ledger: in a conflict the draft label stays.
    assert first.copied > 8
    assert second.copied == 2
    assert {name: files_of(target)[name] for name in files} == files
    shelf = BackupTarget(target)
    assert shelf.names() == [first.backup.name, second.backup.name]
    # The earlier one is there as well.
    other = tmp_path / "other"
    restore_backup(target, place_of(other, tmp_path / "m"), name=first.backup.name)
    with closing(LabelService.open(other)) as service:
        assert len(service.ledger.submissions("a")) == 2


def test_old_backups_go_where_that_is_asked_for_and_those_that_stay_are_whole(
    folder: Folder, models: Path, tmp_path: Path
) -> None:
    target, place = tmp_path / "backups", place_of(folder.path, models)
    shelf = BackupTarget(target, make=True)
    for number in range(4):
        with closing(folder.open()) as service:
            submit(service, another(tmp_path, number))
        make_backup(target, place)
    names = shelf.names()
    damaged = target / "backups" / f"{names[-1]}.json.gz"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-20])
    with pytest.raises(BackupError, match=r"is damaged.*an earlier one"):
        shelf.keep_last(2)
    damaged.write_bytes(whole)
    assert shelf.names() == names
    made = make_backup(target, place, keep=2)
    assert made.gone == names[:3]
    assert shelf.names() == [names[3], made.backup.name]
    entries = [one for name in shelf.names() for one in shelf.read(name).entries]
    assert all(shelf.find(one.sha256) for one in entries)
    assert {Path(name).name for name in files_of(target)} == {one.sha256 for one in entries}


def test_a_backup_while_people_submit_is_of_one_moment(
    folder: Folder, models: Path, tmp_path: Path
) -> None:
    target, place = tmp_path / "backups", place_of(folder.path, models)
    enough, submitted = threading.Event(), []

    def work() -> None:
        with closing(folder.open()) as service:
            while not enough.is_set():
                submit(service, another(tmp_path, len(submitted) + 1))
                submitted.append(True)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        make_backup(target, place)
        first = len(submitted)
        for number in range(100):
            make_backup(target, place)
            if number > 2 and len(submitted) > first + 1:
                break
        make_backup(target, place)
    finally:
        enough.set()
        worker.join()
    counts = []
    for number, name in enumerate(BackupTarget(target).names()):
        other = tmp_path / f"other-{number}"
        done = restore_backup(target, place_of(other, tmp_path / f"m{number}"), name=name)
        assert done.damaged == {}
        with closing(LabelService.open(other)) as service:
            assert list(LabelIntegrity(service.folder).check(["a"], mend=False)) == []
            counts.append(len(service.ledger.submissions("a")))
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["kill", "fail"])
def test_killed_at_any_step_the_last_whole_backup_is_there(
    folder: Folder, models: Path, tmp_path: Path, mode: Any
) -> None:
    target, place = tmp_path / "backups", place_of(folder.path, models)
    first = make_backup(target, place).backup
    with closing(folder.open()) as service:
        submit(service, another(tmp_path, 0))
    kept_target = tmp_path / "kept"
    shutil.copytree(target, kept_target, symlinks=True)
    folder.keep()

    def act(_: object) -> None:
        make_backup(target, place)

    for number in at_every_step(mode, lambda: None, act):
        names = BackupTarget(target).names()
        assert names[0] == first.name
        again = make_backup(target, place)
        assert again.backup.damaged == {}
        for name in names:
            listed = BackupTarget(target).read(name)
            assert all(BackupTarget(target).find(one.sha256) for one in listed.entries), number
        assert not (target / ".incoming").exists()
        shutil.rmtree(target)
        shutil.copytree(kept_target, target, symlinks=True)
        folder.put_back()


@pytest.mark.slow
def test_a_restore_that_was_killed_goes_on(folder: Folder, models: Path, tmp_path: Path) -> None:
    target, other = tmp_path / "backups", tmp_path / "other"
    make_backup(target, place_of(folder.path, models))
    before = look(folder.path)
    place = place_of(other, tmp_path / "m")

    def act(_: object) -> None:
        restore_backup(target, place)

    for _ in at_every_step("kill", lambda: None, act):
        if not place.ledger.exists() and any(other.glob("labels/.history/*/*/*")):
            with pytest.raises(LedgerLostError):
                LabelService.open(other)
        if not place.ledger.exists():
            restore_backup(target, place)
        shutil.copy(folder.path / "a.nii.gz", other)
        with closing(LabelService.open(other)) as service:
            service.reconciler.recover()  # as a start does
        assert look(other) == before
        shutil.rmtree(other, ignore_errors=True)
        shutil.rmtree(tmp_path / "m", ignore_errors=True)


def test_a_place_that_holds_something_is_refused_unless_told(
    folder: Folder, models: Path, tmp_path: Path
) -> None:
    target = tmp_path / "backups"
    make_backup(target, place_of(folder.path, models))
    before = look(folder.path)
    with closing(folder.open()) as service:
        submit(service, another(tmp_path, 0))
    later = look(folder.path)
    place = place_of(folder.path, models)
    with pytest.raises(BackupError, match=r"ledger\.sqlite.*--replace"):
        restore_backup(target, place)
    assert look(folder.path) == later
    done = restore_backup(target, place, replace=True)
    assert look(folder.path) == before
    # What was there is there still, and can be put back by hand.
    labels, ledger = (
        next(p for p in done.aside if p.name == name) for name in ("labels", "ledger.sqlite")
    )
    shutil.rmtree(folder.path / "labels")
    labels.rename(folder.path / "labels")
    locate(str(folder.path)).unlink()
    ledger.rename(locate(str(folder.path)))
    assert look(folder.path) == later
    # A label that is no backup's is enough to refuse.
    other = tmp_path / "other"
    (other / "labels" / "final").mkdir(parents=True)
    (other / "labels" / "final" / "mine.nii.gz").write_bytes(b"mine")
    with pytest.raises(BackupError, match=r"mine\.nii\.gz"):
        restore_backup(target, place_of(other, tmp_path / "m"))
    assert sorted(p.name for p in other.rglob("*") if p.is_file()) in (
        ["mine.nii.gz"],
        ["mine.nii.gz", "server.lock"],
    )


def test_under_a_running_server_nothing_is_restored(
    folder: Folder, models: Path, tmp_path: Path
) -> None:
    make_backup(tmp_path / "backups", place_of(folder.path, models))
    with only_one(folder.path / ".atlas8k" / "server.lock") as alone:
        assert alone
        code = (
            "import sys; from pathlib import Path\n"
            "from atlas8k.services.backups.place import Place\n"
            "from atlas8k.services.backups.restore import restore_backup\n"
            "m = Path(sys.argv[3])\n"
            "restore_backup(Path(sys.argv[1]), Place.of(sys.argv[2], None, m, m), replace=True)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "backups", folder.path, models],
            capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": "lib"},
        )  # fmt: skip
    assert "stop it first" in done.stderr


def test_a_backup_of_a_newer_release_is_refused_in_words(
    folder: Folder, models: Path, tmp_path: Path
) -> None:
    target, other = tmp_path / "backups", tmp_path / "other"
    name = make_backup(target, place_of(folder.path, models)).backup.name
    path = target / "backups" / f"{name}.json.gz"
    said = json.loads(gzip.decompress(path.read_bytes()))
    for change, words in (
        ({"schema": VERSION + 1}, f"newer release .*schema {VERSION + 1}.*upgrade"),
        ({"format": 2, "more": 1}, "newer release .*format 2.*upgrade"),
    ):
        path.write_bytes(gzip.compress(json.dumps({**said, **change}).encode()))
        with pytest.raises(BackupError, match=words):
            restore_backup(target, place_of(other, tmp_path / "m"))
    write_json(target / "atlas8k-backup.json", {"kind": "atlas8k-backup", "format": 2})
    with pytest.raises(BackupError, match=r"newer release .*format 2"):
        make_backup(target, place_of(folder.path, models))
    assert not other.exists()


def test_where_a_backup_cannot_go_and_what_is_none(
    folder: Folder, models: Path, tmp_path: Path
) -> None:
    place = place_of(folder.path, models)
    with pytest.raises(BackupError, match="in the studies folder"):
        make_backup(folder.path / "backups", place)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").touch()
    with pytest.raises(BackupError, match="holds something that is no backup"):
        make_backup(tmp_path / "full", place)
    with pytest.raises(BackupError, match="is no folder of backups"):
        restore_backup(tmp_path / "nowhere", place)
    BackupTarget(tmp_path / "new", make=True)
    with pytest.raises(BackupError, match="holds no whole backup"):
        restore_backup(tmp_path / "new", place)
    make_backup(tmp_path / "b", place)
    with pytest.raises(BackupError, match="holds no backup 1999"):
        restore_backup(tmp_path / "b", place, name="1999")
    with BackupTarget(tmp_path / "b").alone(), pytest.raises(BackupError, match="another backup"):
        make_backup(tmp_path / "b", place)


def test_a_list_that_leads_outside_is_refused(folder: Folder, models: Path, tmp_path: Path) -> None:
    target = tmp_path / "backups"
    name = make_backup(target, place_of(folder.path, models)).backup.name
    path = target / "backups" / f"{name}.json.gz"
    said = json.loads(gzip.decompress(path.read_bytes()))
    for root, bad in (
        ("studies", "../../evil"),
        ("studies", "labels/../../evil"),
        ("studies", "/etc/evil"),
        ("studies", "evil.nii.gz"),
        ("state", "a/evil"),
        ("models", "../evil"),
        ("home", "evil"),
    ):
        said["entries"][1][:2] = root, bad
        path.write_bytes(gzip.compress(json.dumps(said).encode()))
        with pytest.raises(BackupError, match="names a file that no campaign has there"):
            restore_backup(target, place_of(tmp_path / "other", tmp_path / "m"))


def test_altered_files_are_not_backed_up_as_if_they_were_whole(
    folder: Folder, models: Path, tmp_path: Path
) -> None:
    place = place_of(folder.path, models)
    whole = kept(folder).read_bytes()
    flip(kept(folder))
    # The copy in place has its hash.
    assert make_backup(tmp_path / "one", place).backup.damaged == {}
    flip(served(folder))
    made = make_backup(tmp_path / "two", place)
    (name,) = made.backup.damaged
    assert name == str(kept(folder).relative_to(folder.path))
    assert all(one.path != name for one in made.backup.entries)
    # With an earlier backup there is one.
    assert make_backup(tmp_path / "one", place).backup.damaged == {}
    restore_backup(tmp_path / "one", place_of(tmp_path / "other", tmp_path / "m"))
    assert (tmp_path / "other" / name).read_bytes() == whole


def test_a_backup_that_is_altered_is_found_and_mended(
    folder: Folder, models: Path, tmp_path: Path
) -> None:
    target, place = tmp_path / "backups", place_of(folder.path, models)
    made = make_backup(target, place).backup
    label = next(one for one in made.entries if one.path.startswith("labels/.history/final"))
    path = BackupTarget(target).file(label.sha256)
    whole, altered = path.read_bytes(), flip(path)
    done = restore_backup(target, place_of(tmp_path / "other", tmp_path / "m"))
    assert list(done.damaged) == [label.path]
    assert "damaged in the backup" in done.damaged[label.path]
    again = make_backup(target, place, verify=True)
    assert again.altered == [label.sha256]
    assert path.read_bytes() == whole
    assert (target / "damaged" / label.sha256).read_bytes() == altered
    (book,) = [one for one in again.backup.entries if one.path == "ledger"]
    flip(BackupTarget(target).file(book.sha256))
    with pytest.raises(BackupError, match=r"the ledger of backup .* is gone or damaged"):
        restore_backup(target, place_of(tmp_path / "third", tmp_path / "m3"))
    assert not (tmp_path / "third").exists()


def test_a_log_beside_a_lost_ledger_is_not_written_into_the_restored_one(
    folder: Folder, models: Path, tmp_path: Path
) -> None:
    target, place = tmp_path / "backups", place_of(folder.path, models)
    make_backup(target, place)
    before = look(folder.path)
    with closing(sqlite3.connect(place.ledger)) as open_one:
        open_one.execute("PRAGMA wal_autocheckpoint = 0")
        open_one.execute("INSERT INTO setting VALUES ('late', '1')")
        open_one.commit()
        log = place.ledger.with_name("ledger.sqlite-wal")
        shutil.copy(log, tmp_path / "log")
    place.ledger.unlink()
    for suffix in ("-wal", "-shm"):
        place.ledger.with_name(f"ledger.sqlite{suffix}").unlink(missing_ok=True)
    shutil.copy(tmp_path / "log", log)
    done = restore_backup(target, place)
    assert [path.name for path in done.aside] == ["ledger.sqlite-wal"]
    assert look(folder.path) == before


def test_settings_of_the_server_come_with_it(folder: Folder, models: Path, tmp_path: Path) -> None:
    patients = tmp_path / "patients.csv"
    patients.write_text("volume,patient\na,1\n")
    place = place_of(folder.path, models)

    folder_of_networks = models

    class Context:
        state = place.state

        class models:  # noqa: N801
            root = folder_of_networks

    conf = {"budget": "0.1", "patients": str(patients), "unknown": "x"}
    note_settings(Context, conf)  # type: ignore[arg-type]
    assert Place.of(str(folder.path), None, None, tmp_path).models == models
    made = make_backup(tmp_path / "b", place).backup
    assert made.conf == {"budget": "0.1", "patients": str(patients)}
    other = tmp_path / "other"
    restore_backup(tmp_path / "b", place_of(other, tmp_path / "m"))
    assert (other / ".atlas8k" / "patients.csv").read_text() == patients.read_text()
