"""Labels: current complete or not at all, every one that is replaced kept."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from tests.faults import at_every_step
from tests.services.studies.kit import Open, history, sha256, write

from atlas8k.services.errors import NotFoundError
from atlas8k.services.studies.errors import BadNameError, StudiesFolderError
from atlas8k.services.studies.folder import StudiesFolder


@pytest.fixture
def image(studies: Path) -> str:
    (studies / "a.nii.gz").touch()
    return "a"


def in_force(folder: StudiesFolder, tag: str = "final") -> bytes:
    row = folder.label("a", tag)
    assert row is not None
    assert row.ext is not None
    return folder.labels.path("a", tag, row.ext).read_bytes()


def test_what_is_saved_is_in_force_with_what_came_with_it(
    open_folder: Open, image: str, tmp_path: Path
) -> None:
    folder, other = open_folder(), open_folder()
    source = write(tmp_path / "up.nii.gz", b"one")
    before = int(time.time())
    folder.save_label(image, "final", source, {"who": "anna", "name": "forged", "path": "/etc"})
    assert source.read_bytes() == b"one"
    for seen in (folder, other, open_folder()):
        assert in_force(seen) == b"one"
        info = json.loads(seen.known_label(image, "final").info)
        assert info.pop("ts") >= before
        assert info == {"who": "anna", "checksum": f"SHA256:{sha256(b'one')}"}
        assert seen.now().status()["completed"] == 1
    assert not list((folder.labels.folder / ".incoming").iterdir())


def test_every_replaced_label_is_kept_with_time_hash_and_info(
    open_folder: Open, image: str, tmp_path: Path
) -> None:
    folder = open_folder()
    started = time.time()
    for number in range(4):
        data = f"label {number}".encode()
        folder.save_label(image, "final", write(tmp_path / "l.nii.gz", data), {"n": number})
    folder.remove_label(image, "final")
    replaced = history(open_folder(), image)
    files = [folder.labels.file(v).read_bytes() for v in replaced]
    assert files == [f"label {n}".encode() for n in range(4)]
    assert [v.sha256 for v in replaced] == [sha256(data) for data in files]
    assert [v.info["n"] for v in replaced] == [0, 1, 2, 3]
    assert started <= replaced[0].replaced_at <= replaced[-1].replaced_at <= time.time()
    with pytest.raises(NotFoundError):
        folder.known_label(image, "final")
    # No tool takes the history for a tag.
    assert open_folder().now().status() == {"total": 1, "completed": 0, "label_tags": {}}
    assert {p.name for p in folder.labels.folder.iterdir() if not p.name.startswith(".")} == {
        "final",
        "original",
    }


def test_saving_the_same_bytes_again_replaces_nothing(
    open_folder: Open, image: str, tmp_path: Path
) -> None:
    folder = open_folder()
    for number in range(3):
        folder.save_label(image, "final", write(tmp_path / "l.nii.gz", b"same"), {"n": number})
    assert history(folder, image) == []
    assert json.loads(folder.known_label(image, "final").info)["n"] == 2


def test_another_suffix_replaces_too(open_folder: Open, image: str, tmp_path: Path) -> None:
    folder = open_folder()
    for name in ("l.nii.gz", "l.seg.nrrd", "l.nii"):
        folder.save_label(image, "final", write(tmp_path / name, name.encode()), None)
        assert in_force(folder) == name.encode()
        assert len(folder.labels.on_disk(image, "final")) == 1
    assert [folder.labels.file(v).read_bytes() for v in history(folder, image)] == [
        b"l.nii.gz",
        b"l.seg.nrrd",
    ]
    with pytest.raises(BadNameError, match=r"\.nii\.gz, \.nii"):
        folder.save_label(image, "final", write(tmp_path / "l.exe", b"x"), None)
    assert in_force(folder) == b"l.nii"


def test_a_label_put_there_by_other_means_does_not_inherit_what_was_known(
    open_folder: Open, image: str, tmp_path: Path
) -> None:
    folder = open_folder()
    folder.save_label(image, "final", write(tmp_path / "l.nii.gz", b"one"), {"who": "anna"})
    target = folder.labels.path(image, "final", ".nii.gz")
    os.replace(write(tmp_path / "m.nii.gz", b"from elsewhere"), target)
    assert json.loads(folder.known_label(image, "final").info) == {}
    folder.update_label_info(image, "final", {"seen": True})
    assert json.loads(open_folder().known_label(image, "final").info) == {"seen": True}
    folder.save_label(image, "final", write(tmp_path / "n.nii.gz", b"three"), None)
    kept = [folder.labels.file(v).read_bytes() for v in history(folder, image)]
    assert kept == [b"one", b"from elsewhere"]


def test_a_failed_save_changes_nothing(open_folder: Open, image: str, tmp_path: Path) -> None:
    folder = open_folder()
    folder.save_label(image, "final", write(tmp_path / "l.nii.gz", b"good"), {"n": 1})
    with pytest.raises(FileNotFoundError):
        folder.save_label(image, "final", tmp_path / "missing.nii.gz", {"n": 2})
    with pytest.raises(NotFoundError, match="'nobody'"):
        folder.save_label("nobody", "final", tmp_path / "l.nii.gz", None)
    assert in_force(folder) == b"good"
    assert json.loads(folder.known_label(image, "final").info)["n"] == 1
    assert [p.name for p in (folder.labels.folder / "final").iterdir()] == ["a.nii.gz"]


@pytest.mark.parametrize("linked", ["labels", "labels/final", "labels/.history"])
def test_nothing_is_written_through_a_link_out_of_the_folder(
    studies: Path, open_folder: Open, image: str, tmp_path: Path, linked: str
) -> None:
    outside = tmp_path / "outside"
    (outside / "final").mkdir(parents=True)
    link = studies / linked
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside)

    def save() -> None:
        folder = open_folder()
        for data in (b"one", b"two"):
            folder.save_label(image, "final", write(tmp_path / "l.nii.gz", data), None)

    with pytest.raises(StudiesFolderError, match="leads out of"):
        save()
    assert [p for p in outside.rglob("*") if p.is_file()] == []


def test_a_label_that_is_a_link_is_replaced_not_written_through(
    studies: Path, open_folder: Open, image: str, tmp_path: Path
) -> None:
    public = write(tmp_path / "public.nii.gz", b"public")
    folder = open_folder()
    target = folder.labels.path(image, "final", ".nii.gz")
    target.symlink_to(public)
    folder.refresh()
    assert in_force(folder) == b"public"
    folder.save_label(image, "final", write(tmp_path / "l.nii.gz", b"mine"), None)
    assert public.read_bytes() == b"public"
    assert not target.is_symlink()
    assert in_force(folder) == b"mine"
    public.write_bytes(b"changed")
    assert [folder.labels.file(v).read_bytes() for v in history(folder, image)] == [b"public"]


# --- killed in the middle -----------------------------------------------------------------


def test_killed_at_any_step_label_and_info_are_both_old_or_both_new(
    studies: Path, open_folder: Open, image: str, tmp_path: Path
) -> None:
    for suffix in (".nii.gz", ".seg.nrrd"):
        source = write(tmp_path / f"m{suffix}", b"2" + suffix.encode())

        def save(folder: StudiesFolder, source: Path = source) -> None:
            folder.save_label("a", "final", source, {"n": 2})

        before = tmp_path / f"before{suffix}"
        open_folder().save_label(image, "final", write(tmp_path / "l.nii.gz", b"1"), {"n": 1})
        shutil.copytree(studies, before)
        lefts = []
        for n in at_every_step("kill", lambda: StudiesFolder(studies, watch=False), save):
            folder = open_folder()
            row = folder.known_label(image, "final")
            left = json.loads(row.info)["n"]
            lefts.append(left)
            assert in_force(folder) == (b"1" if left == 1 else source.read_bytes()), n
            document = json.loads(folder.now().document())
            assert document["objects"]["a"]["labels"]["final"]["info"]["n"] == left
            assert len(folder.labels.on_disk(image, "final")) == 1
            folder.save_label(image, "final", write(tmp_path / "l.nii.gz", b"3"), {"n": 3})
            kept = {folder.labels.file(v).read_bytes() for v in history(folder, image)}
            assert kept >= ({b"1"} if left == 1 else {b"1", source.read_bytes()})
            folder.close()
            shutil.rmtree(studies)
            shutil.copytree(before, studies)
        assert lefts == sorted(lefts)
        assert {*lefts} == {1, 2}
        shutil.rmtree(before)


def test_what_a_killed_process_was_copying_is_cleared_away_later(
    open_folder: Open, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = open_folder()
    (folder.labels.folder / ".incoming").mkdir()
    old, new = (folder.labels.folder / ".incoming" / n for n in "ab")
    for path in (old, new):
        path.touch()
    os.utime(old, (1, 1))
    open_folder()
    assert not old.exists()
    assert new.exists()  # perhaps of a process that is at work
