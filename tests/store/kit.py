"""What the ledger tests share: a clock to turn, sizes to rank by, a check of what is derived."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.store import Holder, Ledger, OrganChange, OrganScore

ANNA = Holder.identify(user="anna")
BEN = Holder.identify(client_id="ben")
CARA = Holder.identify(user="cara")
NOBODY = Holder.identify(client_id="user-xyz", address="10.0.0.7", software="Slicer")
CONFIRMED = {"liver": OrganChange("confirmed", 1, 1, 0, 1.0)}


class Clock:
    """UTC seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now

    def minutes(self, n: float) -> None:
        self.now += 60 * n


def sizes(total_ml: float, **organs: float) -> dict[str, OrganScore]:
    """Sizes of all organs: those named, and the rest of `total_ml` on the liver."""
    rest = total_ml - math.fsum(organs.values())
    ml = {name: organs.get(name, rest if name == "liver" else 0.0) for name in ORGAN_NAMES}
    return {name: OrganScore(size, size / 2, size / 3, size / 6) for name, size in ml.items()}


def scored(ledger: Ledger, attention: dict[str, float], model_version: str = "one") -> None:
    """Volumes with these attention sizes, all scored under `model_version`."""
    ledger.sync_volumes(attention)
    ledger.register_model_version(model_version)
    for volume, ml in attention.items():
        ledger.record_score(volume, model_version, sizes(ml))


def volumes_of(ledger: Ledger, model_version: str = "one", **filters: object) -> list[str]:
    return [ranked.volume for ranked in ledger.ranking(model_version, **filters)]  # type: ignore[arg-type]


def query(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def _same(connection: sqlite3.Connection, kept: str, due: str) -> None:
    for first, second, what in ((kept, due, "kept, not due"), (due, kept, "due, not kept")):
        odd = connection.execute(f"SELECT * FROM ({first}) EXCEPT SELECT * FROM ({second})")
        assert not (rows := odd.fetchall()), f"{what}: {rows[:5]}\n{first}"


def check_consistent(path: Path) -> None:
    """What is kept beside the rows that it follows from equals what follows from them."""
    with closing(sqlite3.connect(path)) as connection:
        _same(
            connection,
            "SELECT volume, counted, available FROM result",
            "SELECT r.volume, v.counted, v.available"
            " FROM result r JOIN volume v ON v.id = r.volume",
        )
        _same(
            connection,
            "SELECT id, scored FROM model_version",
            "SELECT s.id, count(r.rank_ml) FROM model_version s LEFT JOIN result r"
            " ON r.model_version = s.id AND r.counted GROUP BY s.id",
        )
        _same(
            connection,
            "SELECT id, lease FROM volume WHERE lease IS NOT NULL",
            "SELECT volume, id FROM lease WHERE ended_at IS NULL",
        )
        _same(
            connection,
            "SELECT id, reviewed FROM round",
            "SELECT r.id, count(DISTINCT p.volume) FROM round r LEFT JOIN submission p"
            " ON p.round = r.id AND p.purpose = 'revise' GROUP BY r.id",
        )
        _same(
            connection,
            "SELECT id, audited FROM round WHERE audited",
            "SELECT r.id, count(DISTINCT p.volume) FROM round r"
            " JOIN submission p ON p.round = r.id AND p.purpose = 'revise'"
            " WHERE EXISTS (SELECT 1 FROM plan_volume a WHERE a.round = r.id"
            " AND a.volume = p.volume AND a.audit IS NOT NULL)"
            " OR EXISTS (SELECT 1 FROM lease l WHERE l.id = p.lease AND l.strategy = 'audit')"
            " GROUP BY r.id",
        )
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def held_twice(path: Path) -> list[tuple[object, ...]]:
    """Volumes that two leases held at one moment."""
    return query(
        path,
        "SELECT a.volume, a.holder, b.holder FROM lease a JOIN lease b"
        " ON a.volume = b.volume AND a.id < b.id"
        " WHERE b.taken_at < coalesce(a.ended_at, 1e18)",
    )


def names(n: int) -> Iterable[str]:
    return (f"case_{i:04d}" for i in range(n))


def full(ledger: Ledger, n: int = 20) -> list[str]:
    """So many scored volumes, the largest first; half of them are the budget's."""
    names = [f"v{i:02d}" for i in range(n)]
    scored(ledger, {name: float(n - i) for i, name in enumerate(names)})
    return names


def take(ledger: Ledger, holder: object = ANNA, **more: object) -> tuple[str, bool]:
    sample = ledger.next_sample(holder=holder, model_version="one", **more)  # type: ignore[arg-type]
    assert sample is not None
    return sample.volume, sample.audit


def give(ledger: Ledger, n: int) -> list[tuple[str, bool]]:
    found = []
    for _ in range(n):
        found.append(take(ledger))
        ledger.submit(found[-1][0], ANNA, organs=CONFIRMED)
    return found
