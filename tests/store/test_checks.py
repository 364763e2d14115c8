"""What anatomical rules have against labels: kept by label, counted by dataset and organ."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from tests.store.kit import check_consistent, query, scored, sizes

from atlas8k.core.findings import Finding
from atlas8k.store import LabelNoise, Ledger, VolumeEntry, checks

GAP = Finding("aorta", "gap", "9 slices show postcava but no aorta")
PIECES = Finding("aorta", "pieces", "aorta has 2 small pieces")
TOUCH = Finding("stomach", "touching", "stomach and aorta meet")


def record(ledger: Ledger, volume: str, label: str, *found: Finding) -> None:
    with ledger.write() as tx:
        checks.record(tx, volume, label, found)  # type: ignore[arg-type]


def test_the_last_label_of_each_kind_counts(ledger: Ledger) -> None:
    scored(ledger, {"a": 1.0})
    assert ledger.findings("a") == {}
    assert ledger.current_findings("a") is None  # not checked is not clean
    ledger.record_score("a", "one", sizes(1.0), findings=[GAP, TOUCH])
    assert ledger.current_findings("a") == [GAP, TOUCH]
    record(ledger, "a", "fused")
    assert ledger.current_findings("a") == []
    record(ledger, "a", "submitted", PIECES)
    assert ledger.findings("a") == {"pseudo": [GAP, TOUCH], "submitted": [PIECES], "fused": []}
    with ledger.write() as tx:
        checks.forget(tx, "a", "fused")
    assert ledger.current_findings("a") == [GAP, TOUCH]
    ledger.record_score("a", "one", sizes(1.0))  # of a scoring that did not look
    assert ledger.current_findings("a") == [GAP, TOUCH]
    check_consistent(ledger.path)


def test_noise_is_counted_by_dataset_and_organ_before_and_after(ledger: Ledger) -> None:
    ledger.sync_volumes([VolumeEntry(name, "LiTS" if name < "d" else "") for name in "abcdef"])
    record(ledger, "a", "pseudo", GAP, PIECES, TOUCH)
    record(ledger, "a", "fused", PIECES)
    record(ledger, "b", "pseudo", GAP)
    record(ledger, "b", "submitted", GAP, TOUCH)  # no label of the volume by itself
    record(ledger, "c", "pseudo")
    record(ledger, "d", "pseudo")
    record(ledger, "e", "fused", GAP)  # its pseudo label was not checked
    record(ledger, "f", "pseudo", TOUCH)
    ledger.exclude("f", "no abdomen")
    assert ledger.label_noise() == [
        LabelNoise("", "any", 1, 0, 0, {}),
        LabelNoise("LiTS", "any", 3, 2, 2, {}),
        LabelNoise("LiTS", "aorta", 3, 2, 2, {"gap": 1, "pieces": 1}),
        LabelNoise("LiTS", "stomach", 3, 1, 0, {}),
    ]


def test_a_store_of_the_version_before_gets_the_table(ledger: Ledger) -> None:
    scored(ledger, {"a": 1.0})
    ledger.close()
    with closing(sqlite3.connect(ledger.path)) as connection:
        connection.execute("DROP TABLE label_check")  # as version 11 was
        connection.execute("PRAGMA user_version = 11")
    again = Ledger(ledger.path)
    assert again.label_noise() == []
    assert [line.volume for line in again.ranking("one")] == ["a"]
    assert query(ledger.path, "SELECT count(*) FROM label_check") == [(0,)]


def test_a_ranking_by_findings(ledger: Ledger) -> None:
    ledger.sync_volumes("abc")
    ledger.register_model_version("one")
    for volume, found in (("a", 0.0), ("b", 2.0), ("c", 1.0)):
        sized = {
            organ: one._replace(figures={"findings": found if organ == "aorta" else 0.0})
            for organ, one in sizes(1.0).items()
        }
        ledger.record_score(volume, "one", sized)
    listed = ledger.ranking("one", by="findings")
    assert [(line.volume, line.score) for line in listed] == [("b", 2.0), ("c", 1.0), ("a", 0.0)]
