"""One app's parts over an archive that comes and goes: handing out, scoring, training."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.e2e.orthanc import needs_orthanc, orthanc_with, tiny_series, tiny_uid
from tests.server.tiny import write_networks

from atlas8k.core.settings import Settings
from atlas8k.core.volume import read_grid, write_nifti
from atlas8k.server.archive_datastore import datastore_of
from atlas8k.server.tasks.strategy import LedgerStrategy
from atlas8k.services import scoring
from atlas8k.services.context import Context
from atlas8k.services.errors import UpstreamError
from atlas8k.services.opening import open_context
from atlas8k.services.scoring import Scoring
from atlas8k.services.training.cases import cases
from atlas8k.store import Holder
from local_orthanc import Orthanc

pytestmark = needs_orthanc
UID = tiny_uid(3)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Orthanc]:
    with orthanc_with(tmp_path, tiny_series(tmp_path, 3)) as started:
        yield started


@pytest.fixture
def context(tmp_path: Path, archive: Orthanc) -> Iterator[Context]:
    settings = Settings.from_conf({"ledger": str(tmp_path / "state" / "ledger.sqlite")})
    made = open_context(settings, archive.dicomweb, write_networks(tmp_path / "model"))
    made.sync(thorough=True)
    yield made
    assert made.archive is not None
    made.close()
    made.ledger.close()


def ct(context: Context) -> Path:
    assert context.archive is not None
    return context.archive.folder.cache.path(UID)


def test_nobody_is_handed_what_cannot_be_fetched(context: Context, archive: Orthanc) -> None:
    first = LedgerStrategy(context, "first")
    archive.kill()
    with pytest.raises(UpstreamError, match="nothing is lost"):
        first({"client_id": "reader"}, datastore_of(context))
    with pytest.raises(UpstreamError):  # it went away between the two questions
        context.bring(UID, Holder.identify(client_id="reader"))
    assert context.ledger.leases() == []
    archive.start()
    sample = first({"client_id": "reader"}, datastore_of(context))
    assert sample is not None
    assert sample["id"] == UID
    assert not sample["skipped_before"]
    assert ct(context).is_file()


def test_a_series_that_turns_out_bad_is_passed_over(context: Context, archive: Orthanc) -> None:
    archive.delete_series(UID)
    first = LedgerStrategy(context, "first")
    assert first({"client_id": "reader"}, datastore_of(context)) is None
    assert context.ledger.leases() == []
    assert context.studies.now().ids() == []


def test_scoring_waits_for_an_archive_that_is_away(
    context: Context, archive: Orthanc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "ARCHIVE_PAUSE_S", 0.1)
    archive.kill()
    done: list[dict[str, object]] = []
    task = Scoring(context)
    thread = threading.Thread(target=lambda: done.append(task.run()))
    thread.start()
    time.sleep(1.0)
    assert not done
    archive.start()
    thread.join(60)
    assert done == [{"scored": 1, "failed": 0, "set_aside": 0}]


def test_no_training_on_fewer_cases_because_an_archive_is_away(
    context: Context, archive: Orthanc, tmp_path: Path
) -> None:
    assert context.label_service is not None
    grid = read_grid(datastore_of(context).get_image_uri(UID))
    array = np.zeros(grid.shape, np.uint8)
    array[4:10, 4:10, 4:10] = 5
    sent = write_nifti(tmp_path / "label.nii.gz", array, grid)
    context.label_service.submit(UID, sent, Holder.identify(client_id="reader"))
    assert [case.name for case in cases(context)] == [UID]
    ct(context).unlink()
    archive.kill()
    with pytest.raises(UpstreamError):
        cases(context)
    archive.start()
    assert cases(context)[0].ct_path == ct(context)
    assert ct(context).is_file()
