"""Label files edited in place, deleted, flipped, copied: found, named, set aside, mended."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.services.labels.test_crash import PUBLIC, Folder, begun, state, submit
from tests.services.labels.test_label_service import BEN, GRID, slabs

from atlas8k.core.files import sha256_of
from atlas8k.services.labels.integrity import Fault, LabelIntegrity
from atlas8k.services.labels.label_watch import LabelWatch
from atlas8k.services.labels.service import LabelService
from atlas8k.store import label_files

TAGS = ("final", "original", "pseudo", "public")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """One CT with a pseudo, a public and two submitted labels."""
    folder = Folder(tmp_path)
    begun(folder)
    with closing(folder.open()) as service:
        service.keep_public("a", slabs(liver=(1, 5)), GRID, PUBLIC)
        submit(service, folder.hers)
        submit(service, folder.his, BEN)
    return folder


def served(folder: Folder, tag: str = "final") -> Path:
    return folder.path / "labels" / tag / "a.nii.gz"


def kept(folder: Folder, tag: str = "final") -> Path:
    """The kept file of the current label."""
    with closing(folder.open()) as service, service.ledger.read() as tx:
        found = label_files.current_version(tx, "a", tag)
        assert found is not None
        return folder.path / found.file


def check(folder: Folder, *, mend: bool = False, **more: Any) -> list[Fault]:
    with closing(folder.open()) as service:
        return list(LabelIntegrity(service.folder, **more).check(["a"], mend=mend))


def details(service: LabelService) -> dict[str, Any]:
    """All that clients are told of the labels, and all that the store says."""
    labels = {tag: service.folder.label("a", tag) for tag in TAGS}
    return {
        **{tag: None if one is None else one.info for tag, one in labels.items()},
        **state(service),
    }


def flip(path: Path, *, silently: bool = True) -> bytes:
    """Alter one bit; the time of change stays as it was where that is silent."""
    before, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    with open(path, "r+b") as stream:  # in place: the same inode
        stream.write(data)
    if silently:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return bytes(data)


def test_what_is_served_is_never_the_kept_file(folder: Folder) -> None:
    for tag in TAGS:
        assert not served(folder, tag).samefile(kept(folder, tag)), tag
    assert check(folder) == []


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("silently", [True, False])
def test_an_edit_in_place_is_set_aside_and_put_back(
    folder: Folder, tag: str, silently: bool
) -> None:
    with closing(folder.open()) as service:
        before = details(service)
    path = served(folder, tag)
    was, edited = path.read_bytes(), flip(path, silently=silently)
    (named,) = check(folder)
    assert (named.volume, named.tag, named.file) == ("a", tag, f"labels/{tag}/a.nii.gz")
    assert "hash is another" in named.text
    assert path.read_bytes() == edited  # nothing was done yet
    (mended,) = check(folder, mend=True)
    assert "put back from labels/.history" in mended.mended
    assert path.read_bytes() == was
    with closing(folder.open()) as service:
        (aside,) = LabelIntegrity(service.folder).set_aside.listed()
        assert (folder.path / aside.file).read_bytes() == edited
        assert details(service) == before
    assert check(folder) == []


@pytest.mark.parametrize("tag", TAGS)
def test_a_flipped_bit_in_a_kept_file_is_mended_from_the_served_copy(
    folder: Folder, tag: str
) -> None:
    path = kept(folder, tag)
    was, flipped = path.read_bytes(), flip(path)
    (mended,) = check(folder, mend=True)
    assert mended.file == str(path.relative_to(folder.path))
    assert f"put back from labels/{tag}/a.nii.gz" in mended.mended
    assert path.read_bytes() == was
    with closing(folder.open()) as service:
        (aside,) = LabelIntegrity(service.folder).set_aside.listed()
    assert (folder.path / aside.file).read_bytes() == flipped
    assert check(folder) == []


def test_a_damaged_kept_file_is_never_served(folder: Folder) -> None:
    was = served(folder).read_bytes()
    flip(kept(folder))
    served(folder).unlink()
    with closing(folder.open()) as service:
        service.reconciler.recover()
        service.folder.label("a", "final")
    assert not served(folder).exists()
    (left,) = {
        one.file for one in check(folder, mend=True) if not one.mended and "final/a/" in one.file
    }
    assert left == str(kept(folder).relative_to(folder.path))
    # With a copy from elsewhere both are mended, the kept one first.
    place = folder.path.parent / "copy"
    place.write_bytes(was)
    source: Callable[[str], Path | None] = {sha256_of(place): place}.get
    faults = check(folder, mend=True, source=source)
    assert len(faults) == 2
    assert all(one.mended for one in faults)
    assert served(folder).read_bytes() == kept(folder).read_bytes() == was
    assert check(folder) == []


def test_where_both_are_damaged_neither_is_touched(folder: Folder) -> None:
    files = {path: flip(path) for path in (served(folder), kept(folder))}
    faults = check(folder, mend=True)
    assert [one.mended for one in faults] == ["", ""]
    assert all("from a backup" in one.text for one in faults)
    for path, data in files.items():
        assert path.read_bytes() == data


@pytest.mark.parametrize("what", ["served", "kept", "tag folders", "history"])
def test_what_is_deleted_is_put_back(folder: Folder, what: str) -> None:
    with closing(folder.open()) as service:
        before = details(service)
    labels = folder.path / "labels"
    current = [kept(folder, tag) for tag in TAGS]
    for path in {
        "served": [served(folder)],
        "kept": current,
        "tag folders": [labels / tag for tag in TAGS],
        "history": [],
    }[what]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if what == "history":
        shutil.rmtree(labels / ".history")
    faults = check(folder, mend=True)
    # Of replaced versions there is no other copy: they are named.
    left = {one.file for one in faults if not one.mended}
    assert all("/.history/" in one and folder.path / one not in current for one in left)
    assert bool(left) == (what == "history")
    with closing(folder.open()) as service:
        assert details(service) == before


def test_what_was_edited_before_the_next_submission_is_named_and_kept(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody has looked in between."""
    edited = flip(served(folder), silently=False)
    with closing(folder.open()) as service:
        service.reviews.decide_submission("a", 2, "rita")
    (said,) = [r.getMessage() for r in caplog.records if "by other means" in r.getMessage()]
    assert (folder.path / said.rpartition(" ")[2]).read_bytes() == edited
    assert check(folder) == []


def test_while_a_kept_file_is_gone_its_copy_stands_in(folder: Folder) -> None:
    path = kept(folder)
    data = path.read_bytes()
    path.unlink()
    with closing(folder.open()) as service:
        found = service.versions.current("a", "final")
        assert found is not None
        assert found.path.read_bytes() == data


def test_a_link_of_an_earlier_release_is_made_a_copy(folder: Folder) -> None:
    served(folder, "pseudo").unlink()
    os.link(kept(folder, "pseudo"), served(folder, "pseudo"))
    (mended,) = check(folder, mend=True)
    assert "hard link" in mended.found
    assert not served(folder, "pseudo").samefile(kept(folder, "pseudo"))
    assert check(folder) == []


COPIES = {
    "cp -a": ["cp", "-a"],
    "cp -r": ["cp", "-r"],
    "rsync -a": ["rsync", "-a"],
    "rsync -r": ["rsync", "-r"],
}


@pytest.mark.parametrize("how", [*COPIES, "tar, whole seconds"])
@pytest.mark.parametrize("first", ["ask", "start", "check", "submit"])
def test_a_copied_folder_has_the_same_label_details(
    folder: Folder, tmp_path: Path, how: str, first: str
) -> None:
    """Whatever is done first with it, and whether the copy keeps times of change or not."""
    if how.startswith("rsync") and shutil.which("rsync") is None:
        pytest.skip("there is no rsync here")
    with closing(folder.open()) as service:
        before = details(service)
        versions = len(service.folder.index.label_versions("a"))
    copy = tmp_path / "copy"
    if how in COPIES:
        subprocess.run([*COPIES[how], f"{folder.path}/", str(copy)], check=True)
    else:
        copy.mkdir()
        packed = tmp_path / "f.tar"
        subprocess.run(["tar", "--format=ustar", "-cf", packed, "-C", folder.path, "."], check=True)
        subprocess.run(["tar", "-xf", packed, "-C", copy], check=True)
    shutil.rmtree(folder.path)
    with closing(LabelService.open(copy)) as service:
        if first == "start":
            service.reconciler.recover()
        elif first == "check":
            assert list(LabelIntegrity(service.folder).check(["a"], mend=True)) == []
        elif first == "submit":  # sent again: it is the same
            assert submit(service, folder.his, BEN).again
        assert details(service) == before
        assert len(service.folder.index.label_versions("a")) == versions
        watch = LabelWatch(service.folder, 1, settle_s=0)
        watch.check_all()
        assert watch.integrity.suspects() == []
        assert watch.status()["count"] == 0
        assert watch.status()["mended"] == []
        assert details(service) == before


def test_times_that_the_file_system_cannot_keep_are_those_of_the_files(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.utime

    def coarse(path: Any, *, ns: tuple[int, int]) -> None:  # as on exFAT
        real(path, ns=(ns[0], ns[1] // (2 * 10**9) * 2 * 10**9))

    for path in folder.path.glob("labels/**/*.nii.gz"):
        coarse(path, ns=(0, path.stat().st_mtime_ns))
    monkeypatch.setattr(os, "utime", coarse)
    with closing(folder.open()) as service:
        before = details(service)
        assert before["final"] != "{}"
        integrity = LabelIntegrity(service.folder)
        assert list(integrity.check(["a"], mend=True)) == []
        assert integrity.suspects() == []
        assert details(service) == before


def test_the_watch_notices_while_serving(folder: Folder) -> None:
    """A folder that is deleted, and one file that is written to, without a start in between."""
    with closing(folder.open()) as service:
        before = details(service)
        watch = LabelWatch(service.folder, 1, settle_s=0)
        watch.check_all()
        assert watch.status()["count"] == 0
        watch.look()
        flip(served(folder), silently=False)
        shutil.rmtree(folder.path / "labels" / "public")
        watch.look()
        found = watch.status()
        assert found["count"] == 0
        assert len(found["mended"]) == 2
        assert [one["tag"] for one in found["set_aside"]] == ["final"]
        assert details(service) == before
        aside = folder.path.parent / "elsewhere"
        (folder.path / "labels").rename(aside)
        watch.look()
        found = watch.status()
        assert found["count"] == len(service.folder.index.label_versions("a")) + len(TAGS)
        assert "is gone" in found["faults"][0]
        shutil.rmtree(folder.path / "labels", ignore_errors=True)
        aside.rename(folder.path / "labels")
        watch.look()
        assert watch.status()["count"] == 0
        assert details(service) == before


def test_a_file_that_is_being_written_is_left_alone(folder: Folder) -> None:
    edited = flip(served(folder), silently=False)
    assert check(folder, mend=True, settle_s=60) == []
    assert served(folder).read_bytes() == edited
