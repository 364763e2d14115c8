"""Labels of one volume saved in the same moment: the book says of each file whose it was."""

from __future__ import annotations

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from tests.server import test_app
from tests.server.tiny import GRID

from atlas8k.core.volume import read_label
from atlas8k.services.labels import reconcile
from atlas8k.store import Ledger, locate

PEOPLE, ROUNDS = 8, 4
client = test_app.client


@pytest.mark.filterwarnings("ignore")
def test_each_submission_is_booked_with_its_own_file(
    client: TestClient, studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a disk that takes its time: the others come in between keeping and booking.
    change_at_once = reconcile.Reconciler.change
    monkeypatch.setattr(
        reconcile.Reconciler,
        "change",
        lambda *all_, **more: time.sleep(0.05) or change_at_once(*all_, **more),
    )
    rng = np.random.default_rng(0)

    def save(job: tuple[str, np.ndarray, dict[str, tuple[str, bytes]]]) -> None:
        who, _, files = job
        answer = client.put(
            "/datastore/label?image=a&tag=final",
            files=files,
            data={"params": json.dumps({"client_id": who})},
        )
        assert answer.status_code == 200, answer.text

    drawn = {}
    for turn in range(ROUNDS):
        arrays = [rng.integers(0, 10, GRID.shape).astype(np.uint8) for _ in range(PEOPLE)]
        jobs = [
            (f"p{turn}-{i}", array, test_app.sent(array, tmp_path))
            for i, array in enumerate(arrays)
        ]
        drawn |= {f"client:{who}": array for who, array, _ in jobs}
        with ThreadPoolExecutor(PEOPLE) as pool:
            list(pool.map(save, jobs))

    labels = studies / "labels"
    files = {
        hashlib.sha256(path.read_bytes()).hexdigest(): path
        for folder in (labels / "final", labels / ".history" / "final")
        for path in folder.rglob("*.nii.gz")
    }
    assert len(files) == len(drawn)
    booked = Ledger(locate(str(studies))).submissions("a")
    assert sorted(s.holder for s in booked) == sorted(drawn)
    for submission in booked:
        path = files[str(submission.sha256).removeprefix("SHA256:")]
        assert np.array_equal(read_label(path).array, drawn[submission.holder])
    # In force is the one that was booked first; the others crossed it.
    assert [s.conflict for s in booked] == [False] + [True] * (len(booked) - 1)
    in_force = (labels / "final" / "a.nii.gz").read_bytes()
    assert hashlib.sha256(in_force).hexdigest() == booked[0].sha256
