"""The working folder: what is listed, fetched, kept and let go of."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.e2e.orthanc import GRID, tiny_array, tiny_series, tiny_uid, uid_of

from atlas8k.core.errors import SettingsError
from atlas8k.core.volume import read_ct
from atlas8k.server.archive_datastore import ArchiveDatastore
from atlas8k.services.archive.cache import IN_USE_S, LEARNT_S, mark
from atlas8k.services.archive.client import Archive, is_uid
from atlas8k.services.archive.folder import SLICE_BYTES, ArchiveFolder
from atlas8k.services.archive.session import ArchiveSession
from atlas8k.services.errors import NotFoundError, RequestError
from atlas8k.services.studies.errors import BadNameError
from atlas8k.store import Ledger
from local_orthanc import Orthanc, free_port

UIDS = [tiny_uid(0), tiny_uid(1)]

Make = Callable[..., ArchiveFolder]
DAY_S = 86400.0


def used(folder: ArchiveFolder, *ago_s: float) -> list[Path]:
    """Have both CTs here, used so long ago."""
    rows = [folder.row(uid) for uid in UIDS]
    paths = [folder.cache.have(row) for row in rows]
    for path, row, ago in zip(paths, rows, ago_s, strict=True):
        os.utime(path, ns=(int((time.time() - ago) * 1e9), mark(row)))
    return paths


def test_a_series_is_a_volume_as_it_was_written(working: Make) -> None:
    folder = working()
    folder.refresh()
    assert set(UIDS) <= set(folder.now().ids())
    file = folder.known_image(UIDS[1])
    ct = read_ct(folder.path / file.path)
    assert ct.grid.same_as(GRID)
    assert np.array_equal(ct.array, tiny_array(1))


def test_how_large_a_series_is_is_known_without_fetching_it(working: Make) -> None:
    folder = working()
    folder.refresh()
    assert folder.size(UIDS[0]) == folder.row(UIDS[0]).instances * SLICE_BYTES
    assert folder.size("1.2.3") == 0
    assert not folder.cache.there(folder.row(UIDS[0]))


def test_a_process_that_is_not_in_charge_sees_the_same(working: Make) -> None:
    first, second = working(), working()
    first.refresh()
    assert first.lister.in_charge()
    assert not second.lister.in_charge()
    assert second.now().ids() == [] or set(UIDS) <= set(second.now().ids())
    second.refresh()
    assert second.now().ids() == first.now().ids()
    first.close()
    assert second.lister.in_charge()


def test_nothing_is_fetched_to_list_or_to_look_at_labels(working: Make) -> None:
    folder = working()
    folder.refresh()
    assert folder.label(UIDS[0], "final") is None
    assert folder.image(UIDS[0]) is not None
    assert not list(folder.path.glob("*.nii.gz"))
    folder.image_info(UIDS[0])
    assert [path.name for path in folder.path.glob("*.nii.gz")] == [f"{UIDS[0]}.nii.gz"]


def test_ids_that_are_none(working: Make) -> None:
    folder = working()
    folder.refresh()
    with pytest.raises(NotFoundError):
        folder.known_image("1.2.3.4")
    with pytest.raises(NotFoundError):
        folder.known_image("phantom")
    with pytest.raises(BadNameError):
        folder.known_image("../1.2.3")


def test_a_ct_fetched_again_is_the_same_file(working: Make) -> None:
    folder = working()
    path = folder.cache.have(folder.row(UIDS[0]))
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    folder.cache.forget(UIDS[0])
    folder.cache.have(folder.row(UIDS[0]))
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert not [one for one in folder.path.iterdir() if one.name.startswith(".incoming")]
    assert folder.path.stat().st_mode & 0o077 == 0


def test_what_is_not_used_goes_and_what_is_held_stays(working: Make) -> None:
    folder = working(days=2.0)
    old, held = used(folder, 3 * DAY_S, 5 * DAY_S)
    folder.cache.held = lambda: {UIDS[1]}
    assert folder.cache.sweep() == [UIDS[0]]
    assert not old.exists()
    assert held.exists()


def test_the_longest_unused_go_first_when_there_is_too_much(working: Make) -> None:
    folder = working()
    first, second = used(folder, 2 * IN_USE_S, 3 * IN_USE_S)
    folder.cache.limit_bytes = first.stat().st_size + 1
    assert folder.cache.sweep() == [UIDS[1]]
    assert first.exists()
    assert not second.exists()


def test_a_ct_that_is_in_use_or_trained_on_stays(working: Make) -> None:
    folder = working(limit_gb=0.0)
    now, learnt = used(folder, 5.0, 2 * IN_USE_S)
    folder.cache.learnt = lambda: {UIDS[1]}
    assert folder.cache.sweep() == []
    used(folder, 5.0, LEARNT_S + 60)
    assert folder.cache.sweep() == [UIDS[1]]
    assert now.exists()
    assert not learnt.exists()


def test_a_series_that_grows_is_waited_for(working: Make, orthanc: Orthanc, tmp_path: Path) -> None:
    folder = working(series_settle_s=0.3)
    folder.refresh()
    files = tiny_series(tmp_path, 50)
    uid = uid_of(files)
    orthanc.upload(files[:5])
    folder.refresh()
    row = folder.series_index.one(uid)
    assert row is not None
    assert row.state == "waiting"
    orthanc.upload(files[5:])
    folder.refresh()
    assert uid not in folder.now().ids()
    time.sleep(0.35)
    folder.refresh()
    assert uid in folder.now().ids()
    before = folder.series_index.one(uid)
    assert before is not None
    path = folder.cache.have(before)
    orthanc.delete_series(uid)
    folder.refresh()
    assert uid not in folder.now().ids()
    assert not path.exists()


def test_whose_image_it_is_is_said_only_when_asked_for(tmp_path: Path, orthanc: Orthanc) -> None:
    for show in (False, True):
        session = ArchiveSession(
            Archive(orthanc.dicomweb),
            tmp_path / "studies",
            ledger=Ledger(tmp_path / "state" / "ledger.sqlite"),
            watch=False,
        )
        session.begin()
        store = ArchiveDatastore(session, show_personal=show)
        info = store.get_image_info(UIDS[0])
        assert info["SeriesInstanceUID"] == UIDS[0]
        assert info["Modality"] == "CT"
        assert is_uid(info["StudyInstanceUID"])
        assert ("PatientID" in info, "StudyDate" in info) == (show, show)
        store.close()


def test_images_are_the_archives(tmp_path: Path, orthanc: Orthanc) -> None:
    ledger = Ledger(tmp_path / "state" / "ledger.sqlite")
    session = ArchiveSession(
        Archive(orthanc.dicomweb), tmp_path / "studies", ledger=ledger, watch=False
    )
    session.begin()
    store = ArchiveDatastore(session)
    for change in (lambda: store.add_image("x", "x.nii.gz", None), lambda: store.remove_image("x")):
        with pytest.raises(RequestError, match="DICOM archive"):
            change()
    assert store.name() == orthanc.dicomweb
    assert session.status()["volumes"] >= 2
    store.close()


def test_an_archive_never_seen_ends_the_start_one_seen_before_does_not(
    tmp_path: Path, orthanc: Orthanc
) -> None:
    def store(url: str) -> ArchiveSession:
        where = {"ledger": Ledger(tmp_path / "state" / "ledger.sqlite"), "watch": False}
        return ArchiveSession(Archive(url), tmp_path / "studies", **where)

    nobody = f"http://127.0.0.1:{free_port()}/dicom-web"
    first = store(nobody)
    with pytest.raises(SettingsError, match="--studies http"):
        first.begin()
    first.close()
    second = store(orthanc.dicomweb)
    second.begin()
    second.close()
    third = store(nobody)
    third.begin()
    assert set(UIDS) <= set(third.folder.now().ids())
    assert not third.status()["answers"]
    third.close()
