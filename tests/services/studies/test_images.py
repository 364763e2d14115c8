"""Images: taken in whole, never over another; checksums as 3D Slicer checks them."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from tests.services.studies.kit import Open, history, sha256, write

from atlas8k.services.errors import ConflictError, NotFoundError
from atlas8k.services.studies.errors import BadNameError, StudiesFolderError
from atlas8k.services.studies.folder import StudiesFolder
from atlas8k.store import FileIdentity


def slicer_accepts(path: Path, checksum: str) -> bool:
    """3D Slicer's check of a file it has downloaded or cached (SampleData).

    One colon, a known algorithm, a digest of its length, lower case hexadecimal compared.
    """
    assert checksum.count(":") == 1
    algorithm, digest = checksum.split(":")
    assert len(digest) == {"SHA256": 64, "SHA512": 128, "MD5": 32}[algorithm]
    return hashlib.new(algorithm, path.read_bytes()).hexdigest() == digest


def age(path: Path, seconds: float = 60) -> Path:
    """As if written so long ago: then a checksum is kept."""
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))
    return path


def test_the_checksum_is_slicers_and_follows_the_file(studies: Path, open_folder: Open) -> None:
    image = age(write(studies / "a.nii.gz", b"first patient"))
    folder = open_folder()
    first = folder.image_info("a")["checksum"]
    assert slicer_accepts(image, first)
    age(write(image, b"other patient"), 30)  # same name, same length
    second = folder.image_info("a")["checksum"]
    assert not slicer_accepts(image, first)
    assert slicer_accepts(image, second)


def test_the_checksum_is_computed_once(studies: Path, open_folder: Open) -> None:
    image = age(write(studies / "a.nii.gz", b"x"))
    folder = open_folder()
    folder.image_info("a")
    # A different value under the same print shows that the file is not read again.
    identity = FileIdentity.of(image)
    assert identity is not None
    assert folder.index.checksum("a.nii.gz", identity) == sha256(b"x")
    folder.index.keep_checksum("a.nii.gz", identity, "0" * 64)
    assert open_folder().image_info("a")["checksum"] == f"SHA256:{'0' * 64}"


def test_a_checksum_of_a_file_that_may_still_change_is_not_kept(
    studies: Path, open_folder: Open
) -> None:
    image = write(studies / "a.nii.gz", b"x")
    folder = open_folder()
    folder.image_info("a")
    identity = FileIdentity.of(image)
    assert identity is not None
    assert folder.index.checksum("a.nii.gz", identity) is None


def test_an_upload_is_listed_at_once_everywhere(
    studies: Path, open_folder: Open, tmp_path: Path
) -> None:
    folder, other = open_folder(), open_folder()
    source = write(tmp_path / "upload.nii.gz", b"ct")
    assert folder.add_image("new case", source, {"client": "x"}) == "new case"
    assert (studies / "new case.nii.gz").read_bytes() == b"ct"
    assert [p.name for p in studies.iterdir() if p.name.startswith(".inc")] == []
    for seen in (folder, other, open_folder()):
        assert seen.now().ids() == ["new case"]
        info = seen.image_info("new case")
        assert info["client"] == "x"
        assert info["checksum"] == f"SHA256:{sha256(b'ct')}"
    # The same again changes nothing; another one is refused, whatever its suffix.
    assert folder.add_image("new case", source, None) == "new case"
    for name in ("other.nii.gz", "other.nii"):
        with pytest.raises(ConflictError, match="other content"):
            folder.add_image("new case", write(tmp_path / name, b"another ct"), None)
    assert (studies / "new case.nii.gz").read_bytes() == b"ct"
    assert folder.add_image(None, source, None) == "upload"


def test_an_upload_never_takes_the_place_of_a_case_folder_or_a_dangling_link(
    studies: Path, open_folder: Open, tmp_path: Path
) -> None:
    (studies / "case").mkdir()
    write(studies / "case" / "ct.nii.gz", b"ct")
    (studies / "gone.nii.gz").symlink_to(tmp_path / "elsewhere.nii.gz")
    folder = open_folder()
    source = write(tmp_path / "x.nii.gz", b"other")
    for image_id in ("case", "gone"):
        with pytest.raises(ConflictError):
            folder.add_image(image_id, source, None)
    assert not (tmp_path / "elsewhere.nii.gz").exists()
    assert not (studies / "case.nii.gz").exists()


@pytest.mark.parametrize("image_id", ["../x", "a/b", ".x", "labels", "x" * 300, "..\\x", "a\0b"])
def test_an_upload_cannot_leave_the_folder(
    studies: Path, open_folder: Open, tmp_path: Path, image_id: str
) -> None:
    folder = open_folder()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadNameError):
        folder.add_image(image_id, write(tmp_path / "u.nii.gz", b"x"), None)
    for wanted in (folder.image, folder.known_image, folder.image_info):
        with pytest.raises(BadNameError):
            wanted(image_id)
    (tmp_path / "u.nii.gz").unlink()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_that_is_no_volume_is_refused(open_folder: Open, tmp_path: Path) -> None:
    with pytest.raises(BadNameError, match=r"must end in \.nii\.gz, \.nii"):
        open_folder().add_image("a", write(tmp_path / "a.txt", b"x"), None)


def test_labels_outlive_their_image_and_come_back_with_it(
    studies: Path, open_folder: Open, tmp_path: Path
) -> None:
    folder, other = open_folder(), open_folder()
    source = write(tmp_path / "a.nii.gz", b"ct")
    folder.add_image("a", source, {"k": 1})
    for n in (1, 2):
        label = write(tmp_path / "l.nii.gz", str(n).encode())
        folder.save_label("a", "final", label, {"n": n})
    folder.remove_image("a")
    for seen in (folder, other, open_folder()):
        assert seen.now().status() == {"total": 0, "completed": 0, "label_tags": {}}
        assert seen.image("a") is None
        assert len(history(seen, "a")) == 1
    assert folder.labels.path("a", "final", ".nii.gz").read_bytes() == b"2"
    with pytest.raises(NotFoundError):
        folder.remove_image("a")
    folder.add_image("a", source, None)
    assert other.now().status()["completed"] == 1
    assert json.loads(other.known_label("a", "final").info)["n"] == 2
    assert other.image_info("a")["k"] == 1


def test_another_patient_under_a_removed_id_does_not_get_the_labels(
    studies: Path, open_folder: Open, tmp_path: Path
) -> None:
    folder = open_folder()
    folder.add_image("a", write(tmp_path / "a.nii.gz", b"first"), {"k": 1})
    for tag in ("final", "original"):
        folder.save_label("a", tag, write(tmp_path / "l.nii.gz", tag.encode()), None)
    folder.remove_image("a")
    folder.add_image("a", write(tmp_path / "b.nii.gz", b"second"), None)
    for seen in (folder, open_folder()):
        assert seen.now().status() == {"total": 1, "completed": 0, "label_tags": {}}
        assert "k" not in seen.image_info("a")
    assert {folder.labels.file(v).read_bytes() for v in history(folder, "a")} == {
        b"final",
        b"original",
    }


def test_a_missing_studies_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(StudiesFolderError, match="no such folder"):
        StudiesFolder(tmp_path / "missing")


def test_deleting_a_link_leaves_what_it_leads_to(
    studies: Path, tmp_path: Path, open_folder: Open
) -> None:
    (tmp_path / "elsewhere").mkdir()
    outside = write(tmp_path / "elsewhere" / "far.nii.gz", b"somebody else's")
    (studies / "a.nii.gz").symlink_to(outside)
    (studies / "b.nii.gz").symlink_to(os.path.relpath(outside, studies))
    os.link(outside, studies / "c.nii.gz")
    (studies / "e").mkdir()
    (studies / "e" / "ct.nii.gz").symlink_to(outside)
    folder = open_folder()
    folder.refresh()
    for image in ("a", "b", "c", "e"):
        folder.remove_image(image)
        assert folder.image(image) is None
        assert outside.read_bytes() == b"somebody else's"
    assert [path.name for path in studies.glob("*.nii.gz")] == []


def test_a_case_in_a_linked_folder_is_not_deleted_from_here(
    studies: Path, tmp_path: Path, open_folder: Open
) -> None:
    (tmp_path / "elsewhere" / "d").mkdir(parents=True)
    outside = write(tmp_path / "elsewhere" / "d" / "ct.nii.gz", b"somebody else's")
    (studies / "d").symlink_to(outside.parent)
    folder = open_folder()
    folder.refresh()
    with pytest.raises(ConflictError, match="outside the studies folder"):
        folder.remove_image("d")
    assert outside.read_bytes() == b"somebody else's"
    assert folder.image("d") is not None
