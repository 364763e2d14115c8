"""What the campaign's page shows: people, agreement, what runs; read when due."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.store.kit import ANNA, BEN, CARA, CONFIRMED, full, sizes, take

from atlas8k.campaign.status import status
from atlas8k.services import overview
from atlas8k.services.overview import Overview, name_of, people, work_now
from atlas8k.services.thumbnails import Thumbnails, Wanted
from atlas8k.store import Ledger, OrganChange, reviews


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "ledger.sqlite", budget=0.5)
    ledger.set_campaign(audit_percent=0)
    full(ledger, 12)
    yield ledger
    ledger.close()


def submit(ledger: Ledger, holder: Any, **more: Any) -> str:
    volume, _ = take(ledger, holder)
    ledger.submit(volume, holder, organs=CONFIRMED, **more)
    return volume


def test_people_have_the_numbers_and_sums_of_the_rounds(ledger: Ledger) -> None:
    for holder in (BEN, ANNA, BEN, CARA):
        submit(ledger, holder)
    now = time.time()
    found = people(ledger.worked(), ledger.annotators(), names=False, now=now)
    rows = status(ledger).rounds[-1].annotators
    assert [one.in_all for one in found] == rows
    assert [(one.in_all.name, one.in_all.volumes) for one in found] == [
        ("annotator 1", 2),
        ("annotator 2", 1),
        ("annotator 3", 1),
    ]
    assert all(one.today == one.in_all for one in found)
    later = people(ledger.worked(), ledger.annotators(), names=True, now=now + 86_500)
    assert [one.today for one in later] == [None] * 3
    assert later[0].in_all.name == BEN.key


@pytest.mark.parametrize(
    ("holder", "names", "text"),
    [
        (None, True, ""),
        ("user:anna", True, "anna"),
        ("user:anna", False, "annotator 1"),
        ("client:new", False, "somebody new"),
    ],
)
def test_names(holder: str | None, names: bool, text: str) -> None:
    assert name_of(holder, ["user:anna"], names=names) == text


def test_it_is_read_again_when_something_was_done_and_not_before(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []

    def counted(*args: Any, **more: Any) -> Any:
        reads.append(1)
        return status(*args, **more)

    monkeypatch.setattr(overview, "status", counted)
    monkeypatch.setattr(overview.time, "time", lambda: 1000.0)
    page = Overview(ledger)

    def view() -> Any:
        return page.view("one", names=False, running=[])

    first = view()
    assert view() is first
    ledger.note("export", kind="dataset", size=1)  # changes nothing that is shown
    assert view() is first
    assert len(reads) == 1
    volume = submit(ledger, ANNA)
    assert view().status.volumes.reviewed == 1
    ledger.exclude("v11", "metal", ANNA)
    assert view().status.volumes.excluded == 1
    ledger.record_failure("v10", "one", "damaged")
    assert view().status.volumes.failed == 1
    ledger.lease("v09", BEN)
    assert view().status.volumes.in_hand == 1
    ledger.release("v09", BEN)
    assert view().status.volumes.in_hand == 0
    ledger.set_campaign(stop_after=3)
    assert view().status.stop_after == 3
    ledger.note_training(1, "k", {"start_ts": 1, "total_time": 2, "message": "failed"})
    assert view().status.rounds[-1].trainings
    ledger.reopen(volume)
    assert view().status.volumes.reviewed == 0
    ledger.submit(volume, ANNA, organs=CONFIRMED)
    ledger.close_round()
    assert view().status.rounds[-1].closed_at
    assert page.view("one", names=True, running=[]).people[0].in_all.name == ANNA.key
    before = len(reads)
    monkeypatch.setattr(overview.time, "time", lambda: 1000.0 + overview.FRESH_S)
    page.view("one", names=True, running=[])
    assert len(reads) == before + 1


def test_agreement_is_by_organ_and_of_what_was_drawn(ledger: Ledger) -> None:
    first = submit(ledger, ANNA)
    second = submit(ledger, BEN)
    numbers = [ledger.current_submission(one).id for one in (first, second)]  # type: ignore[union-attr]
    with ledger.write() as tx:
        reviews.keep_agreement(
            tx,
            numbers[0],
            numbers[1],
            {
                "liver": OrganChange("revised", 100, 90, 20, 0.9),
                "spleen": OrganChange("confirmed", 50, 50, 0, 1.0),
                "pancreas": OrganChange("confirmed", 0, 0, 0, None),
            },
        )
    found = {one.organ: one for one in overview.agreement(ledger)}
    assert set(found) == {"liver", "spleen"}
    assert (found["liver"].dsc, found["liver"].same) == (0.9, 0)
    assert (found["spleen"].dsc, found["spleen"].same) == (1.0, 1)


def test_what_runs_and_how_long(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    stats: dict[str, Any] = {}
    context: Any = SimpleNamespace(
        ledger=ledger, model_version=lambda: "one", training_stats=lambda: stats
    )
    idle = work_now(context, [])
    assert idle["scoring"]["text"] == "12 of 12 volumes scored"
    assert (idle["scoring"]["part"], idle["scoring"]["seconds_left"]) == (1.0, None)
    assert idle["training"]["text"] == "none has run yet"
    ledger.sync_volumes([f"v{i:02d}" for i in range(20)])
    ledger.record_score("v12", "one", sizes(1.0), seconds=30.0)
    ledger.record_score("v13", "one", sizes(1.0), seconds=60.0)
    busy = work_now(context, ["scoring"])["scoring"]
    assert (busy["part"], busy["seconds_left"]) == (14 / 20, 6 * 45.0)
    stats |= {"total_time": 5.0, "message": "refused", "network": "unet"}
    assert work_now(context, [])["training"]["text"] == "refused"
    assert work_now(context, ["training"])["training"]["text"].startswith("begins")
    del stats["total_time"]
    stats |= {
        "epoch": 3,
        "total_epochs": 12,
        "loss": 0.5,
        "dsc": {"liver": 0.9, "spleen": 0.8},
        "seconds_left": 100,
        "updated_ts": time.time() - 40,
    }
    now = work_now(context, ["training"])["training"]
    assert now["part"] == 0.25
    assert now["seconds_left"] == pytest.approx(60, abs=5)
    assert now["text"] == "unet: loss 0.5, DSC 0.850"


def test_pictures_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    def draw(ct: Path, label: Path | None, spot: Any) -> bytes:
        drawn.append(ct.name)
        return bytes(100)

    monkeypatch.setattr("atlas8k.services.thumbnails.draw", draw)
    pictures = Thumbnails(limit_bytes=350)

    def get(name: str) -> None:
        pictures.get(Wanted(Path(name), None, None, name))
        assert pictures.bytes <= 350

    for name in ("a", "b", "c", "a", "d", "a", "b"):
        get(name)
    assert drawn == ["a", "b", "c", "d", "b"]  # a was looked at again meanwhile, b was not
