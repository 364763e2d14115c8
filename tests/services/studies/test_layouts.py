"""Which files are images, under which ids and names."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest
from tests.services.studies.kit import Open


def test_flat_folder_and_case_tree_side_by_side(studies: Path, open_folder: Open) -> None:
    (studies / "a.nii.gz").touch()
    (studies / "b.nii").touch()
    case = studies / "BDMAP_00000001"
    (case / "segmentations").mkdir(parents=True)
    for name in ("ct.nii.gz", "combined_labels.nii.gz", "segmentations/liver.nii.gz"):
        (case / name).touch()
    (studies / "empty-case").mkdir()
    (studies / "notes.txt").touch()
    (studies / ".hidden.nii.gz").touch()
    folder = open_folder()
    assert folder.now().ids() == ["BDMAP_00000001", "a", "b"]
    objects = json.loads(folder.now().document())["objects"]
    assert {k: v["image"]["info"]["name"] for k, v in objects.items()} == {
        "BDMAP_00000001": "BDMAP_00000001.nii.gz",
        "a": "a.nii.gz",
        "b": "b.nii",
    }
    info = folder.image_info("BDMAP_00000001")
    assert info["name"] == "BDMAP_00000001.nii.gz"
    assert info["path"] == str(case.resolve() / "ct.nii.gz")


def test_of_two_files_with_one_id_one_is_refused_by_name(
    studies: Path, open_folder: Open, caplog: pytest.LogCaptureFixture
) -> None:
    for case in ("a", "b"):
        (studies / case).mkdir()
        (studies / case / "ct.nii.gz").touch()
    for name in ("a.nii.gz", "b.nii", "c.nii", "c.nii.gz"):
        (studies / name).touch()
    with caplog.at_level(logging.WARNING):
        folder = open_folder()
    images = folder.now().images
    assert {k: v.path for k, v in images.items()} == {
        "a": "a.nii.gz",
        "b": "b.nii",
        "c": "c.nii.gz",
    }
    for refused in ("a/ct.nii.gz", "b/ct.nii.gz", "c.nii"):
        assert f"{refused}: not listed" in caplog.text
    # Looking at one image comes to the same answer as listing all of them.
    for image_id in images:
        assert folder.image(image_id) == images[image_id]
        assert folder._sync.look_at(image_id) == images[image_id]


def test_names_no_viewer_could_cache_are_refused_by_name(
    studies: Path, open_folder: Open, caplog: pytest.LogCaptureFixture
) -> None:
    (studies / "what?.nii.gz").touch()
    (studies / "a..b.nii.gz").touch()
    Path(os.fsdecode(os.fsencode(studies) + b"/\xff.nii.gz")).touch()
    (studies / "good.nii.gz").touch()
    with caplog.at_level(logging.WARNING):
        assert open_folder().now().ids() == ["good"]
    assert "what?.nii.gz: not listed" in caplog.text


def test_images_may_be_links(studies: Path, tmp_path: Path, open_folder: Open) -> None:
    (tmp_path / "big.nii.gz").write_bytes(b"big")
    (studies / "a.nii.gz").symlink_to(tmp_path / "big.nii.gz")
    (studies / "dangling.nii.gz").symlink_to(tmp_path / "missing")
    (studies / "loop.nii.gz").symlink_to(studies / "loop.nii.gz")
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "ct.nii.gz").touch()
    (studies / "case").symlink_to(tmp_path / "case")
    folder = open_folder()
    assert folder.now().ids() == ["a", "case"]
    # Removing such an image removes the link.
    folder.remove_image("a")
    assert folder.now().ids() == ["case"]
    assert (tmp_path / "big.nii.gz").read_bytes() == b"big"


def test_labels_of_the_folder_are_found_whoever_made_them(studies: Path, open_folder: Open) -> None:
    for name in ("a", "b"):
        (studies / f"{name}.nii.gz").touch()
    for tag in ("final", "mine", ".history", "not a tag"):
        (studies / "labels" / tag).mkdir(parents=True)
        (studies / "labels" / tag / "a.nii.gz").touch()
    (studies / "labels" / "final" / "nobody.nii.gz").touch()
    folder = open_folder()
    assert folder.now().status() == {
        "total": 2,
        "completed": 1,
        "label_tags": {"final": 1, "mine": 1},
    }
    assert folder.now().tags_of("a") == ["final", "mine"]
    assert folder.now().ids_by_label("final", labeled=False) == ["b"]
    # The label of an image that comes later counts then.
    (studies / "nobody.nii.gz").touch()
    folder.refresh()
    assert folder.now().status()["label_tags"] == {"final": 2, "mine": 1}
