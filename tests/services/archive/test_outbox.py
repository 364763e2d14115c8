"""Current labels, sent once, kept until they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from tests.e2e.orthanc import tiny_uid

from atlas8k.core.errors import GridMismatchError
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import read_grid
from atlas8k.services.archive import outbox
from atlas8k.services.archive.client import Archive
from atlas8k.services.archive.folder import ArchiveFolder
from atlas8k.services.archive.outbox import Due, Outbox, segmentation
from atlas8k.services.errors import UpstreamError
from local_orthanc import Orthanc, free_port

UIDS = [tiny_uid(0), tiny_uid(1)]

Make = Callable[..., ArchiveFolder]


def submitted(folder: ArchiveFolder, uid: str, number: int, *organs: str) -> None:
    """A current label, as a submission leaves it."""
    grid = read_grid(folder.path / folder.known_image(uid).path)
    array = np.zeros(grid.shape, np.uint8)
    for place, organ in enumerate(organs):
        array[place, 2:6, 2:6] = ORGAN_IDS[organ]
    folder.store_label(uid, "final", array, grid, {"submission": number})


def test_what_is_in_force_is_sent_once(working: Make, orthanc: Orthanc) -> None:
    folder = working()
    folder.refresh()
    box = Outbox(folder)
    submitted(folder, UIDS[0], 3, "spleen")
    assert [(one.volume, one.submission) for one in box.due()] == [(UIDS[0], 3)]
    assert box.send() == 1
    assert box.due() == []
    assert box.send() == 0
    assert box.status() == {"sent": 1, "waiting": 0, "waiting_for": {}}
    uid = folder.series_index.sent()[UIDS[0]].series
    assert uid in orthanc.series()
    submitted(folder, UIDS[0], 4, "liver")
    assert box.send() == 1
    again = folder.series_index.sent()[UIDS[0]].series
    assert again in orthanc.series()
    assert again != uid
    for one in (uid, again):
        orthanc.delete_series(str(one))


def test_a_label_is_the_same_object_however_often_it_is_sent(working: Make, tmp_path: Path) -> None:
    folder = working()
    folder.refresh()
    submitted(folder, UIDS[0], 3, "spleen")
    one = Outbox(folder).due()[0]
    row = folder.row(UIDS[0])
    headers = folder.archive.headers(row.study, row.uid)
    made = [segmentation(one, headers, tmp_path) for _ in range(2)]
    assert made[0].SOPInstanceUID == made[1].SOPInstanceUID
    assert made[0].SeriesInstanceUID == made[1].SeriesInstanceUID
    assert made[0].SeriesDescription == "atlas8k organs, submission 3"
    assert made[0].PatientID == headers[0].PatientID
    other = segmentation(one._replace(submission=4), headers, tmp_path)
    assert other.SOPInstanceUID != made[0].SOPInstanceUID


def test_nothing_to_send_is_not_sent(working: Make) -> None:
    folder = working()
    folder.refresh()
    submitted(folder, UIDS[0], 3)
    box = Outbox(folder)
    assert box.send() == 0
    assert box.due() == []
    assert "no organ has a voxel" in folder.series_index.sent()[UIDS[0]].reason


def test_a_label_that_cannot_be_written_waits_with_the_reason(
    working: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = working()
    folder.refresh()
    tries = []

    def refuse(one: Due, headers: list[Dataset], place: Path) -> Dataset:
        tries.append(len(headers))
        raise GridMismatchError(one.volume, "is elsewhere")

    submitted(folder, UIDS[0], 3, "spleen")
    box = Outbox(folder, refuse)
    assert box.send() == 0
    assert box.status()["waiting_for"] == {UIDS[0]: f"{UIDS[0]}: is elsewhere"}
    box.send()
    assert tries == [16]  # not again at once
    monkeypatch.setattr(outbox, "RETRY_S", (0.0,))
    box.send()
    assert tries == [16, 16]
    assert folder.series_index.sent()[UIDS[0]].tries == 2
    assert not list(folder.path.glob(".incoming*"))


def test_an_archive_that_is_away_loses_nothing(working: Make) -> None:
    folder = working()
    folder.refresh()
    submitted(folder, UIDS[0], 3, "spleen")
    box = Outbox(folder)
    here, box._archive = box._archive, Archive(f"http://127.0.0.1:{free_port()}/dicom-web")
    for _ in range(2):
        with pytest.raises(UpstreamError):
            box.send()
    assert box.status()["waiting"] == 1
    box._archive = here
    assert box.send() == 1
