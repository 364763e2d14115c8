"""What is known about an archive's series and about labels sent to it.

The server writes it; processes that score and train read from it which series there are.
No patient's name, id or date is in it; that studies are of one patient is.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from atlas8k.store import audit_trail
from atlas8k.store.ledger import Ledger

State = Literal["waiting", "volume", "refused"]
CHANGES = "series"
"""The sequence of changes of the series, see :meth:`Transaction.next_in_sequence`."""


class Series(NamedTuple):
    """A series of the archive and what it was found to be."""

    uid: str
    study: str
    instances: int
    state: State
    reason: str = ""
    fingerprint: str = ""


class Sent(NamedTuple):
    """The last label of a volume that was sent, or tried to be."""

    volume: str
    submission: int
    sha256: str
    series: str | None
    tries: int
    reason: str
    at: float


class SeriesIndex:
    """The series of one archive in the store. Every method is one transaction.

    Parameters
    ----------
    ledger
        The store.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    # --- series ---------------------------------------------------------------------------

    def seq(self) -> int:
        """Return a number that grows with every change of the series."""
        with self._ledger.read() as tx:
            return tx.last_in_sequence(CHANGES)

    def series(self) -> dict[str, Series]:
        """Return all series, by UID."""
        with self._ledger.read() as tx:
            return {row[0]: Series(*row) for row in tx.run("SELECT * FROM series")}

    def one(self, uid: str) -> Series | None:
        """Return one series."""
        with self._ledger.read() as tx:
            row = tx.find("SELECT * FROM series WHERE uid = ?", uid)
        return Series(*row) if row else None

    def of_study(self, study: str) -> list[str]:
        """Return the series of a study, by UID."""
        with self._ledger.read() as tx:
            rows = tx.run("SELECT uid FROM series WHERE study = ? ORDER BY uid", study)
            return [uid for (uid,) in rows]

    def write_series(self, rows: Iterable[Series], gone: Iterable[str] = ()) -> None:
        """Take in what was found out; and forget series that are gone."""
        rows, gone = list(rows), list(gone)
        if not rows and not gone:
            return
        with self._ledger.write() as tx:
            tx.connection.executemany("INSERT OR REPLACE INTO series VALUES (?,?,?,?,?,?)", rows)
            tx.connection.executemany("DELETE FROM series WHERE uid = ?", [(u,) for u in gone])
            tx.next_in_sequence(CHANGES)

    def patients(self) -> dict[str, str]:
        """Return studies with the study that stands for their patient; those of one share it."""
        with self._ledger.read() as tx:
            return dict(tx.run("SELECT study, first FROM patient").fetchall())

    def write_patients(self, rows: Mapping[str, str]) -> None:
        """Take in whose studies are whose."""
        if not rows:
            return
        with self._ledger.write() as tx:
            tx.connection.executemany("INSERT OR REPLACE INTO patient VALUES (?,?)", rows.items())

    # --- labels sent ----------------------------------------------------------------------

    def sent(self) -> dict[str, Sent]:
        """Return what was sent, or tried to be, by volume."""
        with self._ledger.read() as tx:
            return {row[0]: Sent(*row) for row in tx.run("SELECT * FROM sent")}

    def write_sent(self, row: Sent) -> None:
        """Record a try."""
        with self._ledger.write(durable=True) as tx:
            tx.run("INSERT OR REPLACE INTO sent VALUES (?,?,?,?,?,?,?)", *row)
            if row.series:
                detail: Any = {"to": "archive", "submission": row.submission, "sha256": row.sha256}
                audit_trail.note(tx, "export", volume=row.volume, **detail)

    # --- the archive ----------------------------------------------------------------------

    def error(self) -> str:
        """Return why the archive has not answered when it was last asked; empty: it has."""
        with self._ledger.read() as tx:
            return tx.setting("archive:error") or ""

    def answered_at(self) -> float | None:
        """Return when the archive last answered, UTC seconds since 1970; None: never."""
        with self._ledger.read() as tx:
            found = tx.setting("archive:answered_at")
        return None if found is None else float(found)

    def record_answer(self, error: str = "") -> None:
        """Record that the archive has answered, or why it has not."""
        if error and self.error() == error:
            return
        with self._ledger.write() as tx:
            tx.set("archive:error", error)
            if not error:
                tx.set("archive:answered_at", time.time())
