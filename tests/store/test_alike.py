"""What is alike, the groups that follow, and contrast phases that people say."""

from __future__ import annotations

from pathlib import Path

import pytest

from atlas8k.core.errors import LedgerError
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.store import Holder, Ledger, OrganScore, alike, phases, volumes


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = Ledger(tmp_path / "ledger.sqlite")
    made.add_volumes([*"abcde"])
    return made


def test_groups_of_what_is_alike(ledger: Ledger):
    with ledger.write() as tx:
        rows = {name: volumes.volume_row(tx, name) for name in "abcd"}
        for name in rows:
            alike.keep(tx, name, "file", b"cells")
        waiting = alike.not_compared(tx, 99)
        assert {*waiting} == {*rows.values()}
        pairs = [
            (rows["d"], rows["b"], "copy", 1.0, 2.0),
            (rows["b"], rows["c"], "same_patient", 1.0, 30.0),
        ]
        assert alike.keep_compared(tx, waiting, rows.values(), pairs)
        assert not alike.not_compared(tx, 99)
        # What another process has compared or changed meanwhile is compared again.
        assert not alike.keep_compared(tx, {}, [rows["a"]], [])
        assert not alike.keep_compared(tx, {rows["a"]: b"other"}, rows.values(), [])
        assert alike.counts(tx) == (4, 4)
    with ledger.read() as tx:
        assert alike.groups(tx) == dict.fromkeys("bcd", "b")
        assert [one[1:3] for one in alike.of_volumes(tx, ["b"])["b"]] == [
            ("d", "copy"), ("c", "same_patient"),
        ]  # fmt: skip
        assert [pair[:3] for pair in alike.pairs(tx)] == [
            ("b", "c", "same_patient"), ("b", "d", "copy"),
        ]  # fmt: skip
    # A CT that is another now is compared anew; one that is gone is not shown.
    with ledger.write() as tx:
        alike.keep(tx, "d", "other", b"cells")
        assert alike.counts(tx) == (4, 3)
    ledger.sync_volumes([*"abde"])
    with ledger.read() as tx:
        assert alike.pairs(tx) == []
        assert alike.files(tx) == {"a": "file", "b": "file", "c": "file", "d": "other"}
        assert {*alike.not_compared(tx, 99).values()} == {b"cells"}


def test_a_phase_is_estimated_unless_somebody_says_it(ledger: Ledger):
    ledger.register_model_version("m0")
    sizes = {organ: OrganScore(1.0) for organ in ORGAN_NAMES}
    for volume, phase in (("a", "arterial"), ("b", "delayed")):
        ledger.record_score(volume, "m0", sizes, traits={"phase": phase})
    anna = Holder.identify(user="anna")
    with ledger.write() as tx:
        phases.say(tx, "b", "portal-venous", anna)
        phases.say(tx, "c", "non-contrast", anna)
    with ledger.read() as tx:
        assert phases.of_volumes(tx) == {
            "a": ("arterial", False), "b": ("portal-venous", True), "c": ("non-contrast", True),
        }  # fmt: skip
    with ledger.write() as tx:
        phases.say(tx, "b", "", anna)
        with pytest.raises(LedgerError, match="no such phase"):
            phases.say(tx, "a", "venous", anna)
    with ledger.read() as tx:
        assert phases.of_volumes(tx)["b"] == ("delayed", False)
