"""The circle over a DICOM archive, a real Orthanc, as clients go round it."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid
from tests.e2e.cutting import Cutter
from tests.e2e.harness import Server
from tests.e2e.orthanc import (
    GRID,
    REAL,
    needs_orthanc,
    orthanc_with,
    real_series,
    serving,
    tiny_array,
    tiny_series,
    uid_of,
)

from atlas8k.core.structures import ORGAN_IDS, find_organ
from atlas8k.core.volume import Grid, read_grid, read_label, write_nifti
from atlas8k.formats.dicom import write_series
from atlas8k.labels.ingest import read_segmentation
from atlas8k.store import Ledger
from local_orthanc import Orthanc

pytestmark = [pytest.mark.slow, needs_orthanc]
LIMIT_S = 60.0
WADO = rb"GET /dicom-web/studies/[0-9.]+/series/[0-9.]+ "
STOW = rb"POST /dicom-web/studies"
NAME, PATIENT, BIRTH, DAY = "Quenstedt^Ottilie", "PX-774411-Q", "19310817", "20070923"


@dataclass
class World:
    """An archive with its server, and a proxy between them."""

    archive: Orthanc
    server: Server
    between: Cutter
    folder: Path

    def status(self) -> dict[str, Any]:
        answer = requests.get(f"{self.server.url}/atlas8k/archive", timeout=LIMIT_S)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def listed(self) -> list[str]:
        found = requests.get(f"{self.server.url}/datastore/?output=all", timeout=LIMIT_S)
        return list(found.json()["objects"])

    def ask(self, strategy: str = "first", client: str = "reader") -> requests.Response:
        where = f"{self.server.url}/activelearning/{strategy}"
        return requests.post(where, json={"client_id": client}, timeout=LIMIT_S)

    def infer(self, volume: str, model: str = "ensemble") -> requests.Response:
        where = f"{self.server.url}/infer/{model}?image={volume}&output=image"
        return requests.post(where, data={"params": "{}"}, timeout=LIMIT_S)

    def put(self, volume: str, path: Path, client: str = "reader") -> requests.Response:
        info = [{"name": name, "idx": idx} for name, idx in ORGAN_IDS.items()]
        return requests.put(
            f"{self.server.url}/datastore/label?image={volume}",
            files={"label": (path.name, path.read_bytes())},
            data={"params": json.dumps({"client_id": client, "label_info": info})},
            timeout=LIMIT_S,
        )

    def label(self, volume: str, *organs: str) -> Path:
        """A label map on the CT's grid with a block of each organ."""
        got = requests.get(f"{self.server.url}/datastore/image?image={volume}", timeout=LIMIT_S)
        assert got.status_code == 200, got.text
        path = self.folder / f"{volume}.nii.gz"
        path.write_bytes(got.content)
        grid = read_grid(path)
        array = np.zeros(grid.shape, np.uint8)
        for place, organ in enumerate(organs):
            array[2 + place : 3 + place, 4:9, 3:7] = ORGAN_IDS[organ]
        return write_nifti(self.folder / f"label-{volume}.nii.gz", array, grid)

    def cached(self) -> list[Path]:
        return sorted(self.server.studies.glob("*.nii.gz"))

    def leased(self) -> set[str]:
        ledger = Ledger(self.folder / "state" / "ledger.sqlite")
        try:
            return {lease.volume for lease in ledger.leases()}
        finally:
            ledger.close()

    def segs(self) -> dict[str, Dataset]:
        """SEG objects of the archive by the CT series they are of, the newest last."""
        found: dict[str, Dataset] = {}
        for series in self.archive.series().values():
            whole = requests.get(f"{self.archive.url}/series/{series}", timeout=LIMIT_S).json()
            if whole["MainDicomTags"].get("Modality") == "SEG":
                for instance in whole["Instances"]:
                    file = requests.get(
                        f"{self.archive.url}/instances/{instance}/file", timeout=LIMIT_S
                    )
                    one = dcmread(io.BytesIO(file.content))
                    found[str(one.ReferencedSeriesSequence[0].SeriesInstanceUID)] = one
        return found


def until(true: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
    """Wait for it."""
    end = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.2)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("archive")
    files = [path for seed in range(3) for path in personal(tiny_series(folder / "dcm", seed))]
    if REAL.is_dir():
        files += real_series()
    with orthanc_with(folder, files) as archive:
        between = Cutter(archive.port)
        url = f"http://127.0.0.1:{between.port}/dicom-web/"
        with serving(folder, url, "--conf", "dicom_poll_s", "0.5") as server:
            yield World(archive, server, between, folder)
        between.close()


@pytest.fixture(autouse=True)
def archive_is_up(world: World) -> None:
    """One test that ends it early does not fail all that follow."""
    if not world.archive.answers():
        world.archive.start()


def personal(files: list[Path]) -> list[Path]:
    """The same series, of a patient whose name is easy to find."""
    for path in files:
        one = dcmread(path)
        one.PatientName, one.PatientID, one.PatientBirthDate = NAME, PATIENT, BIRTH
        one.StudyDate = one.SeriesDate = one.AcquisitionDate = one.ContentDate = DAY
        one.ReferringPhysicianName, one.AccessionNumber = "Quenstedt^Doctor", "ACC-774411"
        one.save_as(path)
    return files


def test_the_circle(world: World) -> None:
    server, client = world.server, world.server.client("annotator")
    count = 4 if REAL.is_dir() else 3
    until(lambda: len(world.listed()) == count, "the series are listed")
    assert client.info()["datastore"] == {"total": count, "completed": 0, "label_tags": {}}
    assert "download" not in server.text().lower()

    assert server.score()["status"] == "DONE"
    state = client.info()["atlas8k"]
    assert (state["scored"], state["failed"], state["total"]) == (count, 0, count)
    model_version = state["model_version"]

    finished = []
    for turn in range(2):
        sample = client.next_sample("attention", {})
        volume = sample["id"]
        assert volume not in finished
        assert sample["audit"] or sample["rank"] == turn + 1
        assert sample["SeriesInstanceUID"] == volume
        assert sample["StudyInstanceUID"]
        file, params = client.infer("ensemble", volume, {})
        assert params["label_names"] == dict(ORGAN_IDS)
        found = read_label(file)
        grid = read_grid(server.studies / f"{volume}.nii.gz")
        assert found.grid.same_as(grid)
        regions, params = client.infer("attention", volume, {"form": "label"})
        assert read_label(regions).grid.same_as(grid)
        where = f"{server.url}/infer/attention?image={volume}&output=dicom_seg"
        coded = requests.post(where, data={"params": "{}"}, timeout=LIMIT_S)
        if coded.status_code == 200:
            names = {s.SegmentLabel for s in dcmread(io.BytesIO(coded.content)).SegmentSequence}
            assert names <= {f"attention_{organ}" for organ in ORGAN_IDS}
        else:  # nothing to look at, which DICOM SEG cannot say
            assert (coded.status_code, "voxel" in coded.text) == (422, True)
        reply = world.put(volume, world.label(volume, "spleen", "kidney_right"), "annotator")
        assert reply.status_code == 200, reply.text
        assert reply.json()["in_force"]
        finished.append(volume)
    assert client.info()["datastore"]["completed"] == 2

    until(lambda: world.status()["labels"] == {"sent": 2, "waiting": 0, "waiting_for": {}}, "sent")
    segs = world.segs()
    assert sorted(segs) == sorted(finished)
    for volume in finished:
        check_seg(world, volume, segs[volume])

    short = {"max_epochs": 1, "steps_per_epoch": 1, "networks": "unet"}
    asked = client.train_start("atlas8k", short)
    assert asked["status"] in {"SUBMITTED", "RUNNING"}
    task = server.finish("train")
    assert task["status"] == "DONE", task["details"]
    stats = client.info()["train_stats"]["atlas8k"]
    assert stats["cases"] == 2
    assert stats["trained_from"] == model_version

    left = {sample["id"] for _ in range(4) if (sample := client.next_sample("first", {}))}
    assert left == set(world.listed()) - set(finished)


def check_seg(world: World, volume: str, seg: Dataset) -> None:
    """Names, codes and voxels are those of what was submitted."""
    names = [segment.SegmentLabel for segment in seg.SegmentSequence]
    assert names == ["kidney_right", "spleen"]
    codes = [s.SegmentedPropertyTypeCodeSequence[0].CodeValue for s in seg.SegmentSequence]
    organs = [find_organ(name) for name in names]
    assert codes == [organ.snomed_code for organ in organs if organ is not None]
    path = world.folder / "seg.dcm"
    seg.save_as(path)
    read = read_segmentation(path, read_grid(world.server.studies / f"{volume}.nii.gz"))
    assert {segment.name for segment in read.segments or ()} == set(names)
    assert sum(int((layer > 0).sum()) for layer in read.layers) == 2 * 20


def test_series_come_and_go(world: World) -> None:
    before = world.listed()
    new = tiny_series(world.folder / "dcm", 10)
    world.archive.upload(new)
    until(lambda: uid_of(new) in world.listed(), "a new series is listed")
    assert uid_of(new) in {
        sample["id"] for _ in range(6) if (sample := world.ask(client="nosy").json())
    }
    world.archive.delete_series(uid_of(new))
    until(lambda: uid_of(new) not in world.listed(), "a deleted series is not")
    assert world.infer(uid_of(new)).status_code == 404
    assert world.listed() == before
    assert not (world.server.studies / f"{uid_of(new)}.nii.gz").exists()


def test_a_series_is_known_as_soon_as_it_is_asked_for(world: World) -> None:
    new = tiny_series(world.folder / "dcm", 11)
    world.archive.upload(new)
    reply = world.infer(uid_of(new))
    assert reply.status_code == 200, reply.text
    world.archive.delete_series(uid_of(new))


def test_what_is_no_volume_is_refused_by_name(world: World) -> None:
    gap = tiny_series(world.folder / "dcm", 20)
    gap = [path for number, path in enumerate(gap) if number != 7]
    scout = write_series(world.folder / "scout", tiny_array(21), GRID, seed="scout")
    mr = write_series(world.folder / "mr", tiny_array(22), GRID, seed="mr")
    for path in scout:
        changed(path, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    for path in mr:
        changed(path, Modality="MR")
    world.archive.upload([*gap, *scout, *mr])
    wanted = {uid_of(gap): "lacks 1 slice", uid_of(scout): "localizer", uid_of(mr): "MR"}
    until(lambda: wanted.keys() <= world.status()["refused_series"].keys(), "refused")
    refused = world.status()["refused_series"]
    for uid, words in wanted.items():
        assert words in refused[uid]
        assert uid not in world.listed()
        reply = world.infer(uid)
        assert reply.status_code == 422
        assert uid in reply.json()["detail"]
    assert uid_of(gap) in world.server.text()
    # A slice that comes late makes it a volume.
    world.archive.upload(tiny_series(world.folder / "dcm", 20))
    until(lambda: uid_of(gap) in world.listed(), "a series that is complete now")
    for uid in wanted:
        world.archive.delete_series(uid)


def changed(path: Path, **values: Any) -> None:
    one = dcmread(path)
    for key, value in values.items():
        setattr(one, key, value)
    one.save_as(path)


def test_a_foreign_seg_finishes_nothing(world: World) -> None:
    new = tiny_series(world.folder / "dcm", 30)
    world.archive.upload(new)
    until(lambda: uid_of(new) in world.listed(), "listed")
    done = world.server.client().info()["datastore"]["completed"]
    own = next(iter(world.segs().values()))
    own.ReferencedSeriesSequence[0].SeriesInstanceUID = uid_of(new)
    own.StudyInstanceUID = str(dcmread(new[0]).StudyInstanceUID)
    own.SeriesInstanceUID, own.SOPInstanceUID = generate_uid(), generate_uid()
    own.file_meta.MediaStorageSOPInstanceUID = own.SOPInstanceUID
    file = io.BytesIO()
    own.save_as(file)
    world.archive.upload_bytes(file.getvalue())
    time.sleep(1.5)  # three looks
    assert world.server.client().info()["datastore"]["completed"] == done
    assert uid_of(new) in {s["id"] for _ in range(6) if (s := world.ask(client="other").json())}
    world.archive.delete_series(own.SeriesInstanceUID)
    world.archive.delete_series(uid_of(new))


def fresh(world: World, seed: int) -> str:
    """A series of its own, listed, whose CT is not here."""
    new = tiny_series(world.folder / "dcm", seed)
    world.archive.upload(new)
    until(lambda: uid_of(new) in world.listed(), "listed")
    for path in world.cached():
        path.unlink()
    return uid_of(new)


def away(reply: requests.Response) -> None:
    """A reply that says what is the matter, with an id that the log has."""
    assert reply.status_code == 503, reply.text
    body = reply.json()
    assert "nothing is lost" in body["detail"]
    assert len(body["id"]) == 12


def test_orthanc_ends_in_the_middle_of_a_next_sample(world: World) -> None:
    fresh(world, 40)
    before = world.leased()
    world.between.arm(WADO, 9000, world.archive.kill)
    reply = world.ask(client="unlucky")
    assert world.between.cut.is_set()
    away(reply)
    assert reply.json()["id"] in world.server.text()
    away(world.ask(client="unlucky"))
    assert world.leased() == before
    world.archive.start()
    again = world.ask(client="unlucky")
    assert again.status_code == 200, again.text
    assert again.json()["id"] in world.leased()


def test_orthanc_ends_in_the_middle_of_an_inference(world: World) -> None:
    volume = fresh(world, 41)
    world.between.arm(WADO, 9000, world.archive.kill)
    reply = world.infer(volume)
    assert world.between.cut.is_set()
    away(reply)
    assert volume not in {path.name.removesuffix(".nii.gz") for path in world.cached()}
    # The scorer, a process of its own, may have been fetching another series just then.
    until(lambda: not list(world.server.studies.glob(".incoming*")), "nothing half is left")
    world.archive.start()
    again = world.infer(volume)
    assert again.status_code == 200, again.text
    assert world.server.client().info()["name"] == "atlas8k"


def test_orthanc_ends_in_the_middle_of_a_submission(world: World) -> None:
    volume = fresh(world, 42)
    label = world.label(volume, "liver")
    world.between.arm(STOW, 0, world.archive.kill)
    reply = world.put(volume, label)
    assert reply.status_code == 200, reply.text  # it is kept here, whatever becomes of Orthanc
    number = reply.json()["submission"]
    assert world.between.cut.wait(LIMIT_S)
    until(lambda: not world.status()["answers"], "the archive is missed")
    assert volume in world.status()["labels"]["waiting_for"]

    # Without the CT nobody can say whether a label fits: asked again, as the reply says.
    for path in world.cached():
        path.unlink()
    away(world.put(volume, label, "second"))

    world.archive.start()
    until(lambda: world.status()["labels"]["waiting"] == 0, "sent when the archive is back")
    seg = world.segs()[volume]
    assert [segment.SegmentLabel for segment in seg.SegmentSequence] == ["liver"]
    assert str(number) in seg.SeriesDescription
    assert world.put(volume, label, "second").status_code == 200


def test_a_label_beside_the_series_reaches_neither_side(world: World) -> None:
    volume = fresh(world, 43)
    path = world.label(volume, "liver")
    label = read_label(path)
    beside = label.grid.affine.copy()
    beside[:3, 3] += 5.0
    where = Grid(label.grid.shape, beside)
    bad = write_nifti(world.folder / "beside.nii.gz", label.array, where)
    sent = world.status()["labels"]["sent"]
    assert world.put(volume, bad).status_code == 422
    time.sleep(1.5)
    assert world.status()["labels"] == {"sent": sent, "waiting": 0, "waiting_for": {}}
    assert volume not in world.segs()


def test_nothing_of_the_patient_is_said_or_kept(world: World) -> None:
    """Names, ids and dates of the archive: in no reply, page, log or file of ours."""
    url, client = world.server.url, world.server.client("nosy")
    volume = next(iter(world.listed()))
    info = requests.get(f"{url}/datastore/image/info?image={volume}", timeout=LIMIT_S).json()
    study = info["StudyInstanceUID"]
    said = [
        requests.get(f"{url}{path}", timeout=LIMIT_S).content
        for path in (
            "/info/",
            "/datastore/?output=all",
            "/datastore/?output=train",
            "/datastore/",
            f"/datastore/image/info?image={volume}",
            f"/datastore/label/info?label={volume}&tag=original",
            "/logs/?lines=10000&text=true",
            "/atlas8k/archive",
            "/scoring/?all=true",
            "/train/?all=true",
            "/proxy/dicom/studies",
            "/proxy/dicom/series",
            f"/proxy/dicom/studies/{study}/series/{volume}/metadata",
            "/datastore/image?image=" + volume,
            "/openapi.json",
        )
    ]
    whole = f"{url}/proxy/dicom/studies/{study}/series/{volume}"
    for accept in ("application/dicom", "application/dicom+xml"):
        headers = {"Accept": f'multipart/related; type="{accept}"'}
        said.append(requests.get(whole, headers=headers, timeout=LIMIT_S).content)
        said.append(requests.get(f"{whole}/metadata", headers=headers, timeout=LIMIT_S).content)
    said.append(client.next_sample("first", {}).__repr__().encode())
    said.append(world.infer(volume).content)
    said += [path.read_bytes() for path in files_of(world)]
    assert len(said) > 40
    words = [b"Quenstedt", b"Ottilie", b"ACC-774411"]
    words += [word.encode() for word in (PATIENT, BIRTH, DAY)]
    for text in said:
        for word in words:
            assert word not in text, text[max(0, text.find(word) - 300) :][:600]
    names = [str(path.relative_to(world.folder)).encode() for path in files_of(world)]
    assert not [name for name in names for word in words if word in name]


def files_of(world: World) -> list[Path]:
    """Everything the server has written."""
    ours = ("state", "app", "elsewhere")
    found = [path for name in ours for path in (world.folder / name).rglob("*")]
    return [path for path in found if path.is_file()]
