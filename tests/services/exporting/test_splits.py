"""Splits keep groups together, meet their shares in every stratum, and stay as volumes come."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from tests.services.exporting.kit import Campaign, manifest

from atlas8k.core.errors import SettingsError
from atlas8k.services.exporting.export import ExportSettings, export
from atlas8k.services.exporting.selection import select
from atlas8k.services.exporting.splits import SHARES, SplitRule, assign, parse_shares
from atlas8k.store import Ledger, VolumeEntry, alike, volumes
from atlas8k.store.transaction import Transaction


def add(ledger: Ledger, start: int, stop: int, source: str = "BTCV") -> None:
    # Names in no order of their numbers: nothing may follow from it.
    names = [f"{source}-{(37 * n) % 1009:04d}" for n in range(start, stop)]
    ledger.add_volumes([VolumeEntry(name, source) for name in names])


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


def test_shares_are_met_in_every_source(ledger: Ledger):
    add(ledger, 0, 400)
    add(ledger, 0, 40, "KiTS")
    found = assign(ledger, SplitRule((70, 10, 20)))
    for source, count in (("BTCV", 400), ("KiTS", 40)):
        sizes = Counter(part for name, part in found.items() if name.startswith(source))
        assert {part: n / count for part, n in sizes.items()} == pytest.approx(
            {"train": 0.7, "validation": 0.1, "test": 0.2}, abs=1.01 / count
        )
    assert assign(ledger, SplitRule((70, 10, 20), salt="other")) != found


def test_nothing_moves_as_volumes_come(ledger: Ledger):
    rule = SplitRule(SHARES)
    add(ledger, 0, 100)
    before = assign(ledger, rule)
    for stop in (101, 150, 400):
        add(ledger, 100, stop)
        now = assign(ledger, rule)
        assert {name: now[name] for name in before} == before
        before = now
    test = sum(part == "test" for part in before.values()) / 400
    assert test == pytest.approx(2448 / 8448, abs=0.01)


def enter(tx: Transaction, pairs: list[alike.Pair]) -> None:
    """Enter what `atlas8k cts duplicates` finds."""
    row = {pair: sorted(volumes.volume_row(tx, name) for name in pair[:2]) for pair in pairs}
    found = [(*row[pair], *pair[2:]) for pair in pairs]
    assert alike.keep_compared(tx, {}, [], found)


def test_patients_and_what_is_alike_stay_together(ledger: Ledger):
    add(ledger, 0, 300)
    with ledger.read() as tx:
        names = [name for (name,) in tx.run("SELECT name FROM volume ORDER BY id")]
    patients = {name: f"patient {n // 3}" for n, name in enumerate(names[:150])}
    with ledger.write() as tx:
        pairs = [alike.Pair(names[n], names[n + 75], "copy", 0, 0) for n in range(150, 225)]
        enter(tx, pairs)
    found = assign(ledger, SplitRule((1, 1, 1), patients=patients))
    for patient in {*patients.values()}:
        assert len({found[n] for n, one in patients.items() if one == patient}) == 1
    assert all(found[pair.first] == found[pair.second] for pair in pairs)
    assert min(Counter(found.values()).values()) > 90
    # Without them they are apart: the test can fail.
    loose = assign(ledger, SplitRule((1, 1, 1), salt="x"))
    assert any(
        len({loose[n] for n, one in patients.items() if one == p}) > 1 for p in patients.values()
    )
    # Two that lie apart turn out to be alike: the one seen later moves.
    apart = next(n for n in names[1:150] if found[n] != found[names[0]])
    with ledger.write() as tx:
        enter(tx, [alike.Pair(names[0], apart, "same_patient", 0, 0)])
    now = assign(ledger, SplitRule((1, 1, 1), patients=patients))
    assert now[apart] == now[names[0]] == found[names[0]]


def test_external_test_sets(ledger: Ledger):
    add(ledger, 0, 20)
    add(ledger, 0, 10, "TotalSegmentator")
    with ledger.write() as tx:
        enter(tx, [alike.Pair("BTCV-0000", "TotalSegmentator-0000", "copy", 0, 0)])
    found = assign(ledger, SplitRule(SHARES, external={"TotalSegmentator": "outside"}))
    assert Counter(found.values())["outside"] == 10
    assert found["BTCV-0000"] == "excluded"


@pytest.mark.parametrize("text", ["", "1/2", "a/b/c", "0/0/0", "-1/1/1", "nan/1/1", "inf/1/1"])
def test_what_are_no_shares(text: str):
    with pytest.raises(SettingsError, match="shares"):
        parse_shares(text)
    assert parse_shares("70/10/20") == (70, 10, 20)


def test_sets_of_nnunet_are_split(tmp_path: Path):
    names = [f"case{n}" for n in range(6)]
    made = Campaign.begun(tmp_path, *names)
    for name in names:
        made.public(name, liver="present")
    parts = assign(made.service.ledger, SplitRule((1, 1, 1)))
    said = ExportSettings(layout="nnunet", cts="copy", organs=("liver",), split="1/1/1")
    chosen = select(made.service.folder, "confirmed", ("liver",), parts=parts)
    out = export(made.service.folder, tmp_path / "out", said, chosen).out
    assert {n: one["split"] for n, one in manifest(out)["volumes"].items()} == parts
    folder = next(out.glob("Dataset*"))
    (fold,) = json.loads((folder / "splits_final.json").read_text())
    assert {*fold["train"]} == {n for n in names if parts[n] == "train"}
    assert {*fold["val"]} == {n for n in names if parts[n] == "validation"}
    test = {n for n in names if parts[n] == "test"}
    assert {p.name for p in folder.glob("labelsTs/*")} == {f"{n}.nii.gz" for n in test}
    assert {p.name for p in folder.glob("imagesTs/*")} == {f"{n}_0000.nii.gz" for n in test}
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 4
    made.service.close()
