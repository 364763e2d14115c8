"""Labels that lie in ``labels/final`` at the first start: checked, imported or set aside."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from monailabel.datastore.local import LocalDatastore
from typer.testing import CliRunner

from abdomen_phantom import generate
from atlas8k.cli import app
from atlas8k.core.errors import LabelValueError, VolumeError
from atlas8k.core.files import sha256_of
from atlas8k.core.grid import Grid, Volume
from atlas8k.core.settings import Settings
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import read_label, write_nifti
from atlas8k.labels.provenance import Provenance, read_provenance, write_label
from atlas8k.server.archive_datastore import datastore_of
from atlas8k.server.routes.cases_page import shown
from atlas8k.server.tasks.strategy import LedgerStrategy
from atlas8k.services.cases import Cases
from atlas8k.services.context import Context
from atlas8k.services.labels.existing_labels import ExistingLabels, Reading
from atlas8k.services.labels.service import LabelService
from atlas8k.services.labels.submissions import IMPORTED_BY
from atlas8k.services.opening import open_context
from atlas8k.services.rebuild import rebuild
from atlas8k.services.rebuild_files import labels_on_disk
from atlas8k.services.studies.names import is_tag
from atlas8k.store import Holder, OrganSource

AMOS = {"spleen": 1, "kidney_right": 2, "kidney_left": 3, "gall_bladder": 4, "liver": 6,
        "stomach": 7, "aorta": 8, "postcava": 9}  # fmt: skip
V = "case"
CHECKING = """
import sys
from atlas8k.services.labels.service import LabelService
from atlas8k.services.labels.existing_labels import ExistingLabels

check = ExistingLabels.check
def told(self, volume):
    done = check(self, volume)
    print(volume, flush=True)
    return done

ExistingLabels.check = told
LabelService.open(sys.argv[1]).existing.start().join()
"""
"""A process that says what it has checked."""


@pytest.fixture(scope="module")
def patient() -> tuple[Volume, Volume]:
    phantom = generate(1000, grid_spacing_mm=6.0)
    return phantom.ct, phantom.label


@pytest.fixture
def studies(tmp_path: Path, patient: tuple[Volume, Volume]) -> Path:
    folder = tmp_path / "studies"
    (folder / "labels" / "final").mkdir(parents=True)
    write_nifti(folder / f"{V}.nii.gz", patient[0].array, patient[0].grid)
    return folder


@pytest.fixture
def put(studies: Path) -> Iterator[object]:
    """Writes the label of the case by hand and opens the folder, as a first start does."""
    opened: list[LabelService] = []

    def go(array: np.ndarray, grid: Grid, name: str = f"{V}.nii.gz") -> LabelService:
        write_nifti(studies / "labels" / "final" / name, array, grid)
        opened.append(LabelService.open(studies))
        opened[-1].existing.import_all()
        return opened[-1]

    yield go
    for label_service in opened:
        label_service.close()


def numbered(truth: Volume, values: dict[str, int]) -> np.ndarray:
    raw = np.zeros_like(truth.array)
    for organ, value in values.items():
        raw[truth.array == ORGAN_IDS[organ]] = value
    return raw


def shifted(grid: Grid, voxels: float) -> Grid:
    affine = grid.affine.copy()
    affine[:3, 3] += voxels * affine[:3, 0]
    return Grid(grid.shape, affine)


def counts_nowhere(label_service: LabelService) -> None:
    assert label_service.folder.now().status()["completed"] == 0
    assert label_service.folder.now().status()["label_tags"].get("rejected") is None
    assert label_service.ledger.submissions(V) == []
    assert label_service.ledger.sources(V) == {}
    assert label_service.ledger.statuses().get(V, "open") == "open"
    assert list((label_service.folder.path / "labels" / "final").iterdir()) == []


def mask(truth: Volume, organ: str, value: int) -> np.ndarray:
    return np.where(truth.array == ORGAN_IDS[organ], value, 0).astype(np.uint8)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("amos", "aorta"),
        ("mask 255", "255"),
        ("mask 1", "no vessel's shape"),
        ("half a voxel", "voxels off"),
        ("mirrored", "left and right are swapped"),
        ("empty", "holds no organ"),
        ("fractions", "whole numbers"),
        ("garbage", "damaged"),
    ],
)
def test_what_fails_is_set_aside_by_name_and_counts_nowhere(
    kind: str, words: str, patient: tuple[Volume, Volume], studies: Path
) -> None:
    truth, grid = patient[1], patient[1].grid
    array = {
        "amos": numbered(truth, AMOS),
        "mask 255": mask(truth, "liver", 255),
        "mask 1": mask(truth, "liver", 1),
        "mirrored": truth.array[::-1],
        "empty": np.zeros_like(truth.array),
        "fractions": truth.array * np.float32(0.5),
    }.get(kind, truth.array)
    final = studies / "labels" / "final" / f"{V}.nii.gz"
    write_nifti(final, array, shifted(grid, 0.5) if kind == "half a voxel" else grid)
    if kind == "garbage":
        final.write_bytes(b"\x1f\x8bnothing")
    before = sha256_of(final)
    label_service = LabelService.open(studies)
    assert label_service.existing.import_all() == 0
    (one,) = label_service.existing.waiting()
    assert (one.volume, one.path) == (V, studies / "labels" / "rejected" / f"{V}.nii.gz")
    assert words in one.reason
    assert sha256_of(one.path) == before
    counts_nowhere(label_service)
    assert label_service.existing.import_all() == 0
    assert len(label_service.existing.waiting()) == 1
    label_service.close()


def test_a_good_label_is_imported_with_its_file_kept(
    put: object, patient: tuple[Volume, Volume], studies: Path
) -> None:
    truth = patient[1]
    label_service = put(truth.array, truth.grid)  # type: ignore[operator]
    assert label_service.existing.waiting() == []
    (one,) = label_service.ledger.submissions(V)
    assert (one.holder, one.purpose) == (IMPORTED_BY.key, "adopted")
    assert {s.state for s in label_service.ledger.sources(V).values()} == {"revised"}
    np.testing.assert_array_equal(
        read_label(studies / f"labels/final/{V}.nii.gz").array, truth.array
    )
    (found,) = (studies / "labels" / ".history" / "imported" / V).iterdir()
    assert read_provenance(found) is None
    assert label_service.folder.now().status()["completed"] == 1
    assert label_service.existing.import_all() == 0


def test_turned_and_cropped_is_put_on_the_cts_grid(
    put: object, patient: tuple[Volume, Volume], studies: Path
) -> None:
    truth = patient[1]
    affine = truth.grid.affine.copy()
    affine[:, 3] += affine[:, 0] * (truth.grid.shape[0] - 1)
    affine[:, 0] *= -1
    put(np.ascontiguousarray(truth.array[::-1]), Grid(truth.grid.shape, affine))  # type: ignore[operator]
    label = read_label(studies / f"labels/final/{V}.nii.gz")
    assert label.grid.same_as(truth.grid)
    np.testing.assert_array_equal(label.array, truth.array)


def test_accepted_by_mapping_or_by_force_and_only_what_each_can(
    put: object, patient: tuple[Volume, Volume], studies: Path
) -> None:
    truth = patient[1]
    label_service = put(numbered(truth, AMOS), truth.grid)  # type: ignore[operator]
    with pytest.raises(LabelValueError, match="--map"):
        label_service.existing.accept(V)
    short = {value: organ for organ, value in AMOS.items() if organ != "liver"}
    with pytest.raises(LabelValueError, match="value 6 is not in the mapping"):
        label_service.existing.accept(V, Reading(short))
    counts_nowhere(label_service)
    booked = label_service.existing.accept(
        V, Reading({value: organ for organ, value in AMOS.items()})
    )
    assert booked.purpose == "adopted"
    wanted = np.where(truth.array == ORGAN_IDS["pancreas"], 0, truth.array)
    np.testing.assert_array_equal(read_label(studies / f"labels/final/{V}.nii.gz").array, wanted)
    assert label_service.existing.waiting() == []
    assert (studies / "labels" / "rejected" / f"{V}.nii.gz").is_file()  # nothing is lost


@pytest.mark.parametrize("off", [0.5, 1.5])
def test_force_takes_a_header_that_is_off_by_less_than_a_voxel(
    off: float, put: object, patient: tuple[Volume, Volume], studies: Path
) -> None:
    truth = patient[1]
    label_service = put(truth.array, shifted(truth.grid, off))  # type: ignore[operator]
    if off > 1:
        with pytest.raises(VolumeError, match="voxels"):
            label_service.existing.accept(V, Reading(force=True))
        counts_nowhere(label_service)
        return
    label_service.existing.accept(V, Reading(force=True))
    label = read_label(studies / f"labels/final/{V}.nii.gz")
    assert label.grid.same_as(truth.grid)
    np.testing.assert_array_equal(label.array, truth.array)


def test_what_networks_made_is_nobodys_work(patient: tuple[Volume, Volume], studies: Path) -> None:
    truth = patient[1]
    final = studies / "labels" / "final" / f"{V}.nii.gz"
    write_label(final, truth.array, truth.grid, Provenance("pseudo", model_version="m0"))
    label_service = LabelService.open(studies)
    label_service.existing.import_all()
    (one,) = label_service.existing.waiting()
    assert "pseudo label" in one.reason
    counts_nowhere(label_service)
    label_service.existing.accept(V, Reading(force=True))
    assert label_service.ledger.sources(V)["liver"].source == "revised"
    label_service.close()


def test_a_submission_of_another_folder_keeps_its_maker_and_only_what_was_drawn(
    patient: tuple[Volume, Volume], studies: Path, tmp_path: Path
) -> None:
    truth = patient[1]
    other = tmp_path / "other"
    (other / "labels").mkdir(parents=True)
    shutil.copy(studies / f"{V}.nii.gz", other)
    first = LabelService.open(other)
    first.ledger.register_model_version("m0")
    first.keep_pseudo(V, truth.array, truth.grid, {"model_version": "m0"})
    drawn = truth.array.copy()
    drawn[drawn == ORGAN_IDS["liver"]] = 0
    drawn[truth.array == ORGAN_IDS["spleen"]] = 0
    spleen = truth.array == ORGAN_IDS["spleen"]
    drawn[spleen] = np.where(np.arange(spleen.sum()) % 97, ORGAN_IDS["spleen"], 0)
    sent = write_nifti(
        tmp_path / "s.nii.gz", mask(Volume(drawn, truth.grid), "spleen", 8), truth.grid
    )
    first.submit(V, sent, Holder.identify(user="anna"), {})
    shutil.copy(other / f"labels/final/{V}.nii.gz", studies / "labels" / "final")
    label_service = LabelService.open(studies)
    assert label_service.existing.import_all() == 1
    (one,) = label_service.ledger.submissions(V)
    assert one.holder == "user:anna"
    assert one.submitted_at == pytest.approx(first.ledger.submissions(V)[0].submitted_at)
    assert {o for o, s in label_service.ledger.sources(V).items() if s.source == "revised"} == {
        "spleen"
    }
    first.close()
    label_service.close()


def test_a_folder_of_stock_monai_label(patient: tuple[Volume, Volume], studies: Path) -> None:
    """Values by the position of the names, who and when; its own file stays byte for byte."""
    truth = patient[1]
    names = ["spleen", "liver", "kidney_left"]
    values = {name: place for place, name in enumerate(names, start=1)}
    for other in ("bad", "plain"):
        shutil.copy(studies / f"{V}.nii.gz", studies / f"{other}.nii.gz")
    stock = LocalDatastore(str(studies), auto_reload=False)
    path = write_nifti(studies.parent / "sent.nii.gz", numbered(truth, values), truth.grid)
    info = [{"name": name, "idx": 7 * place} for place, name in enumerate(names)]
    stock.update_image_info(V, {"strategy": {"random": {"ts": 1000, "client_id": "anna"}}})
    stock.save_label(V, str(path), "final", {"label_info": info})
    stock.save_label("bad", str(path), "final", {"label_info": info[:2], "client_id": "ben"})
    stock.save_label("plain", str(path), "final", {"label_info": info, "client_id": "user-xyz"})
    file = studies / "datastore_v2.json"
    said = json.loads(file.read_text())["objects"][V]["labels"]["final"]["info"]
    before, stamp = file.read_bytes(), file.stat().st_mtime_ns
    label_service = LabelService.open(studies)
    assert label_service.existing.import_all() == 2
    (one,) = label_service.ledger.submissions(V)
    assert (one.holder, one.submitted_at) == ("client:anna", said["ts"])
    assert label_service.ledger.submissions("plain")[0].holder == IMPORTED_BY.key
    final = read_label(studies / f"labels/final/{V}.nii.gz").array
    wanted = np.where(np.isin(truth.array, [ORGAN_IDS[n] for n in names]), truth.array, 0)
    np.testing.assert_array_equal(final, wanted)
    current = label_service.versions.current(V, "final")
    assert current is not None
    assert current.info["label_info"] == info
    (aside,) = label_service.existing.waiting()
    assert (aside.volume, aside.info["client_id"]) == ("bad", "ben")
    assert "value 3: no name for it" in aside.reason
    label_service.reconciler.recover()
    label_service.close()
    assert file.read_bytes() == before
    assert file.stat().st_mtime_ns == stamp


def test_a_damaged_stock_file_stops_nothing(
    put: object, patient: tuple[Volume, Volume], studies: Path
) -> None:
    (studies / "datastore_v2.json").write_text('{"objects": [1')
    label_service = put(patient[1].array, patient[1].grid)  # type: ignore[operator]
    assert len(label_service.ledger.submissions(V)) == 1


def test_a_ct_that_cannot_be_read_is_not_its_labels_fault(
    patient: tuple[Volume, Volume], studies: Path
) -> None:
    write_nifti(studies / "labels" / "final" / f"{V}.nii.gz", patient[1].array, patient[1].grid)
    (studies / f"{V}.nii.gz").write_bytes(b"\x1f\x8bnothing")
    label_service = LabelService.open(studies)
    assert label_service.existing.import_all() == 0
    assert label_service.existing.waiting() == []
    assert (studies / "labels" / "final" / f"{V}.nii.gz").is_file()
    label_service.close()


def test_a_rebuilt_ledger_leaves_them_to_the_checks(
    patient: tuple[Volume, Volume], studies: Path, put: object, tmp_path: Path
) -> None:
    write_nifti(
        studies / "labels" / "final" / f"{V}.nii.gz", mask(patient[1], "liver", 1), patient[1].grid
    )
    report = rebuild(tmp_path / "l.sqlite", [V], list(labels_on_disk(studies)))
    assert (report.submissions, len(report.unchecked)) == (0, 1)
    label_service = put(patient[1].array, patient[1].grid)  # type: ignore[operator]
    report = rebuild(tmp_path / "m.sqlite", [V], list(labels_on_disk(studies)))
    assert (report.submissions, report.unchecked) == (1, [])
    assert len(label_service.ledger.submissions(V)) == 1


def test_told_in_info_on_the_page_and_by_the_command(
    patient: tuple[Volume, Volume], studies: Path, models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    final = studies / "labels" / "final" / f"{V}.nii.gz"
    write_nifti(final, numbered(patient[1], AMOS), patient[1].grid)
    context: Context = open_context(Settings(device="cpu"), str(studies), models)
    context.sync(thorough=True)
    caplog.set_level("WARNING")
    taken_up = context.label_service.existing.start()
    assert taken_up is not None
    taken_up.join()
    said = context.status()["rejected_labels"]
    assert said["count"] == 1
    assert "no vessel's shape" in said["labels"][V]
    assert f"{V}: its label was set aside as labels/rejected/{V}.nii.gz" in caplog.text
    cases = Cases(context, [Holder.identify(user="anna")])
    html = bytes(shown(cases, "").body).decode()
    assert "set aside" in html
    assert V in html
    context.close()
    listed = CliRunner().invoke(app, ["labels", "rejected", "--studies", str(studies)])
    assert listed.exit_code == 0, listed.output
    assert f"{V}  set aside" in listed.stdout
    mapping = ",".join(f"{value}={organ}" for organ, value in AMOS.items())
    done = CliRunner().invoke(
        app, ["labels", "accept", V, "--studies", str(studies), "--map", mapping]
    )
    assert done.exit_code == 0, done.output
    assert "accepted as submission" in done.stdout
    label_service = LabelService.open(studies)
    assert label_service.ledger.sources(V)["liver"] == OrganSource(
        "revised", "revised", submission=1
    )
    label_service.close()


@pytest.fixture
def three(patient: tuple[Volume, Volume], studies: Path) -> Path:
    """Two CTs with labels that pass, one with a mask that does not."""
    for name in ("bad", "good"):
        shutil.copy(studies / f"{V}.nii.gz", studies / f"{name}.nii.gz")
    truth = patient[1]
    final = studies / "labels" / "final"
    for name in (V, "good"):
        write_nifti(final / f"{name}.nii.gz", truth.array, truth.grid)
    write_nifti(final / "bad.nii.gz", mask(truth, "liver", 255), truth.grid)
    return studies


def test_checked_beside_the_requests_and_none_counts_before(
    three: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns, checking = threading.Semaphore(0), ExistingLabels._import

    def wait(self: ExistingLabels, *args: object) -> bool | None:
        assert turns.acquire(timeout=60)
        return checking(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(ExistingLabels, "_import", wait)
    context: Context = open_context(Settings(device="cpu"), str(three), models)
    assert context.studies.now().status()["completed"] == 3
    context.sync(thorough=True)
    thread = context.label_service.existing.start()
    assert thread is not None
    assert thread.is_alive()
    assert context.studies.now().status()["completed"] == 0
    assert datastore_of(context).get_labeled_images() == []
    assert datastore_of(context).datalist() == []
    assert context.status()["unchecked_labels"] == {"checked": 0, "total": 3}
    html = bytes(shown(Cases(context, [Holder.identify(user="anna")]), "").body).decode()
    assert "0 of 3 labels that lay in" in html
    context.studies.refresh()
    assert context.studies.now().status()["completed"] == 0
    for _ in range(2):  # "bad" and "case", by name
        turns.release()
    until = time.monotonic() + 60
    while context.labels_checked() != (2, 3) and time.monotonic() < until:
        time.sleep(0.01)
    assert context.status()["unchecked_labels"] == {"checked": 2, "total": 3}
    assert datastore_of(context).get_labeled_images() == [V]
    turns.release()
    thread.join(60)
    assert "unchecked_labels" not in context.status()
    assert datastore_of(context).get_labeled_images() == [V, "good"]
    assert [one.volume for one in context.label_service.existing.waiting()] == ["bad"]  # type: ignore[union-attr]
    context.close()


def test_a_ct_is_handed_out_once_its_label_is_checked(three: Path, models: Path) -> None:
    """The list begins with two that turn out to be labeled; only the mask is no work of anybody."""
    (three / "bad.nii.gz").rename(three / "zbad.nii.gz")
    (three / "labels/final/bad.nii.gz").rename(three / "labels/final/zbad.nii.gz")
    context: Context = open_context(Settings(device="cpu", check_content=False), str(three), models)
    context.sync(thorough=True)
    assert context.label_service is not None
    assert context.label_service.existing.hold_back() == 3
    sample = LedgerStrategy(context, "first")({"client_id": "anna"}, datastore_of(context))
    assert sample is not None
    assert sample["id"] == "zbad"
    assert datastore_of(context).get_labeled_images() == [V, "good"]
    assert context.labels_checked() == (0, 0)
    statuses = context.ledger.statuses()
    assert statuses == {V: "submitted", "good": "submitted", "zbad": "leased"}
    context.close()


def test_killed_while_checking_and_the_next_start_goes_on(three: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHECKING, str(three)], stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "bad\n"
        assert running.stdout.readline() == f"{V}\n"
        running.kill()  # while the third is being checked
    label_service = LabelService.open(three)
    label_service.existing.start().join(60)
    assert {name: len(label_service.ledger.submissions(name)) for name in (V, "good", "bad")} == {
        V: 1, "good": 1, "bad": 0,
    }  # fmt: skip
    assert [one.volume for one in label_service.existing.waiting()] == ["bad"]
    assert label_service.folder.now().status()["completed"] == 2
    label_service.close()


def test_the_folder_is_no_tag() -> None:
    assert not is_tag("rejected")
