"""As MONAI Label sees it: its own interface, without its JSON file."""

from __future__ import annotations

import inspect
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.utils.others.generic import file_checksum
from tests.services.studies.kit import history, write

from atlas8k.core.errors import UnreadableVolumeError
from atlas8k.core.volume import Grid, read_ct, read_label
from atlas8k.server.datastore import StudiesDatastore
from atlas8k.services.errors import NotFoundError, RequestError
from atlas8k.services.studies.errors import BadNameError
from atlas8k.services.studies.folder import StudiesFolder


@pytest.fixture
def datastore(studies: Path) -> Iterator[StudiesDatastore]:
    for name in ("a", "b", "c"):
        write(studies / f"{name}.nii.gz", name.encode())
    datastore = StudiesDatastore(StudiesFolder(studies, watch=False))
    yield datastore
    datastore.close()


def submit(datastore: StudiesDatastore, tmp_path: Path, image: str, data: bytes = b"x") -> None:
    datastore.save_label(
        image, str(write(tmp_path / "up.nii.gz", data)), DefaultLabelTag.FINAL, {"by": "anna"}
    )


def test_it_is_a_local_datastore_and_nothing_of_that_is_left_in_use(
    datastore: StudiesDatastore,
) -> None:
    assert isinstance(datastore, LocalDatastore)
    assert not hasattr(datastore, "_datastore")  # the model that is written as JSON
    own = vars(StudiesDatastore)
    for name, _ in inspect.getmembers(LocalDatastore, inspect.isfunction):
        if not name.startswith("_"):
            assert name in own, name
    for name, method in inspect.getmembers(Datastore, inspect.isfunction):
        theirs = list(inspect.signature(method).parameters)
        assert (
            list(inspect.signature(getattr(StudiesDatastore, name)).parameters)[: len(theirs)]
            == theirs
        ), name


def test_the_answers_are_monai_labels_own(
    studies: Path, datastore: StudiesDatastore, tmp_path: Path
) -> None:
    submit(datastore, tmp_path, "b")
    stock = LocalDatastore(str(studies), extensions=("*.nii.gz", "*.nii"), auto_reload=False)
    assert sorted(stock.list_images()) == datastore.list_images() == ["a", "b", "c"]
    assert stock.status() == datastore.status()
    assert stock.get_labeled_images() == datastore.get_labeled_images() == ["b"]
    assert sorted(stock.get_unlabeled_images()) == datastore.get_unlabeled_images() == ["a", "c"]
    for image in ("a", "b", "c"):
        assert stock.get_image_uri(image) == datastore.get_image_uri(image)
        assert stock.get_label_uri(image, "final") == datastore.get_label_uri(image, "final")
        assert stock.get_labels_by_image_id(image) == datastore.get_labels_by_image_id(image)
    assert stock.datalist() == datastore.datalist()
    ours, theirs = datastore.json(), stock.json()
    assert ours.keys() == theirs.keys()
    assert ours["objects"].keys() == theirs["objects"].keys()
    for image, entry in theirs["objects"].items():
        assert ours["objects"][image].keys() == entry.keys()
        assert ours["objects"][image]["image"]["ext"] == entry["image"]["ext"]
        assert ours["objects"][image]["image"]["info"]["name"] == entry["image"]["info"]["name"]
        assert ours["objects"][image]["labels"].keys() == entry["labels"].keys()
    assert json.loads(datastore.json_bytes()) == datastore.json()


def test_no_json_file_of_monai_label_is_written(
    studies: Path, datastore: StudiesDatastore, tmp_path: Path
) -> None:
    submit(datastore, tmp_path, "a")
    datastore.update_image_info("a", {"k": 1})
    datastore.update_label_info("a", "final", {"k": 2})
    datastore.set_name("mine")
    datastore.refresh()
    datastore.remove_label("a", "final")
    assert not list(studies.glob("*.json"))
    assert not (studies / ".lock").exists()
    assert StudiesDatastore(StudiesFolder(studies, watch=False)).name() == "mine"
    assert datastore.json()["name"] == "mine"


def test_info_of_images_and_labels(datastore: StudiesDatastore, tmp_path: Path) -> None:
    datastore.update_image_info("a", {"k": 1, "name": "forged", "checksum": "SHA256:0"})
    info = datastore.get_image_info("a")
    assert info["k"] == 1
    assert info["name"] == "a.nii.gz"
    assert info["checksum"] == file_checksum(info["path"]) == datastore.studies.checksum("a")
    submit(datastore, tmp_path, "a")
    label = datastore.get_label_info("a", "final")
    assert label["by"] == "anna"
    assert label["name"] == "a.nii.gz"
    assert label["checksum"] == file_checksum(datastore.get_label_uri("a", "final"))
    image, data = datastore.get_image("a"), datastore.get_label("a", "final")
    assert data is not None
    assert (image.read(), data.read()) == (b"a", b"x")


def test_what_is_not_there(datastore: StudiesDatastore) -> None:
    assert datastore.get_label_uri("a", "final") == ""
    assert datastore.get_label_by_image_id("a", "final") == ""
    for call in (
        lambda: datastore.get_image_uri("nobody"),
        lambda: datastore.get_image("nobody"),
        lambda: datastore.get_image_info("nobody"),
        lambda: datastore.get_label_info("a", "final"),
        lambda: datastore.update_image_info("nobody", {}),
        lambda: datastore.update_label_info("a", "final", {}),
        lambda: datastore.remove_label("a", "final"),
        lambda: datastore.remove_image("nobody"),
    ):
        with pytest.raises(NotFoundError):
            call()


@pytest.mark.parametrize("bad", ["../../evil", "..", "/etc", "a/b", ".hidden"])
def test_no_method_takes_a_name_that_leaves_the_folder(
    datastore: StudiesDatastore, studies: Path, tmp_path: Path, bad: str
) -> None:
    up = str(write(tmp_path / "up.nii.gz", b"x"))
    before = sorted(p for p in tmp_path.rglob("*") if ".atlas8k" not in p.parts)
    for call in (
        lambda: datastore.save_label("a", up, bad, {}),
        lambda: datastore.save_label(bad, up, "final", {}),
        lambda: datastore.add_image(bad, up, {}),
        lambda: datastore.get_image_uri(bad),
        lambda: datastore.get_image(bad),
        lambda: datastore.get_image_info(bad),
        lambda: datastore.get_label_uri(bad, "final"),
        lambda: datastore.get_label_uri("a", bad),
        lambda: datastore.get_label("a", bad),
        lambda: datastore.get_label_info("a", bad),
        lambda: datastore.get_label_info(bad, "final"),
        lambda: datastore.get_labels_by_image_id(bad),
        lambda: datastore.get_labeled_images(bad),
        lambda: datastore.get_unlabeled_images(bad),
        lambda: datastore.remove_image(bad),
        lambda: datastore.remove_label(bad, "final"),
        lambda: datastore.remove_label("a", bad),
        lambda: datastore.update_image_info(bad, {}),
        lambda: datastore.update_label_info(bad, "final", {}),
        lambda: datastore.update_label_info("a", bad, {}),
    ):
        with pytest.raises(BadNameError):
            call()
    assert sorted(p for p in tmp_path.rglob("*") if ".atlas8k" not in p.parts) == before


def test_what_a_client_sends_along_never_makes_the_list_unsendable(
    datastore: StudiesDatastore, tmp_path: Path
) -> None:
    info = {"nan": float("nan"), "text": "\ud800", "path": Path("/x")}
    datastore.save_label("a", str(write(tmp_path / "u.nii.gz", b"x")), "final", info)
    sent = json.loads(datastore.json_bytes(), parse_constant=pytest.fail)
    assert sent["objects"]["a"]["labels"]["final"]["info"]["nan"] is None


def test_an_archive_of_finished_cases(
    studies: Path, datastore: StudiesDatastore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(NotFoundError, match="finished label"):
        datastore.get_dataset_archive(None)
    with pytest.raises(RequestError, match="limit_cases"):
        datastore.get_dataset_archive(-1)
    (studies / "tree").mkdir()
    write(studies / "tree" / "ct.nii.gz", b"ct of tree")
    datastore.refresh()
    for image in ("a", "tree"):
        submit(datastore, tmp_path, image, f"label of {image}".encode())
    with zipfile.ZipFile(datastore.get_dataset_archive(None)) as archive:
        assert {name: archive.read(name) for name in archive.namelist() if "/" in name} == {
            "image/a.nii.gz": b"a",
            "label/a.nii.gz": b"label of a",
            "image/tree.nii.gz": b"ct of tree",
            "label/tree.nii.gz": b"label of tree",
        }
        assert json.loads(archive.read("metadata.json"))["objects"].keys() == {"a", "tree"}
    with zipfile.ZipFile(datastore.get_dataset_archive(1)) as archive:
        assert sorted(archive.namelist()) == ["image/a.nii.gz", "label/a.nii.gz", "metadata.json"]
    assert datastore.datalist(full_path=False) == [
        {"image": "a.nii.gz", "label": "labels/final/a.nii.gz"},
        {"image": "tree/ct.nii.gz", "label": "labels/final/tree.nii.gz"},
    ]


def test_label_maps_are_stored_on_their_grid_and_may_be_checked_first(
    studies: Path, tmp_path: Path
) -> None:
    write(studies / "a.nii.gz", b"a")
    grid = Grid((3, 4, 5), np.diag([2.0, 2.0, 3.0, 1.0]))
    array = np.arange(60, dtype=np.uint8).reshape(grid.shape) % 10
    asked = []

    class Good:
        def __init__(self, info: object) -> None:
            self.array, self.grid, self.info = array, grid, {"checked": info}

    def ingest(image: Path, label: Path, info: object) -> Good:
        asked.append((image.name, label.read_bytes()))
        if label.read_bytes() == b"bad":
            raise RequestError("no organ")
        return Good(info)

    datastore = StudiesDatastore(StudiesFolder(studies, watch=False), ingest=ingest)
    submit(datastore, tmp_path, "a", b"good")
    with pytest.raises(RequestError, match="no organ"):
        submit(datastore, tmp_path, "a", b"bad")
    assert asked == [("a.nii.gz", b"good"), ("a.nii.gz", b"bad")]
    stored = read_label(datastore.get_label_uri("a", "final"))
    np.testing.assert_array_equal(stored.array, array)
    np.testing.assert_array_equal(nib.load(stored.path).affine, grid.affine)
    assert datastore.get_label_info("a", "final")["checked"] == {"by": "anna"}
    assert history(datastore.studies, "a") == []


def test_an_uploaded_image_may_be_checked_first(studies: Path, tmp_path: Path) -> None:
    datastore = StudiesDatastore(StudiesFolder(studies, watch=False), check_image=read_ct)
    with pytest.raises(UnreadableVolumeError):
        datastore.add_image("a", str(write(tmp_path / "a.nii.gz", b"no CT")), {})
    assert datastore.list_images() == []
