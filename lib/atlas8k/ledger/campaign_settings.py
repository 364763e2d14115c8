"""Share of audits and stop rule: kept in the file, since all processes must go by the same."""

from __future__ import annotations

import sqlite3

from atlas8k.errors import LedgerError
from atlas8k.ledger.records_campaign import CampaignSettings

PERCENT, STOP = "audit_percent", "stop_after"
USUAL_PERCENT, USUAL_STOP = 1.0, 10
"""Of a ledger that was never told."""


def get(connection: sqlite3.Connection, key: str) -> str | None:
    """A row of `setting`, None where it was never set."""
    row = connection.execute("SELECT value FROM setting WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def put(connection: sqlite3.Connection, key: str, value: object) -> None:
    """Set a row of `setting`."""
    connection.execute("INSERT OR REPLACE INTO setting VALUES (?,?)", (key, str(value)))


def settings(connection: sqlite3.Connection) -> CampaignSettings:
    """What was set last, else the usual."""
    percent, stop = get(connection, PERCENT), get(connection, STOP)
    return CampaignSettings(
        USUAL_PERCENT if percent is None else float(percent),
        USUAL_STOP if stop is None else int(stop),
    )


def choose(
    connection: sqlite3.Connection, audit_percent: float | None, stop_after: int | None
) -> None:
    """Set what is given, for the lists that are drawn from now on.

    Raises
    ------
    LedgerError
        Out of bounds.
    """
    if audit_percent is not None:
        if not 0 <= audit_percent <= 100:
            raise LedgerError(f"audit_percent {audit_percent}: from 0 to 100 is needed")
        put(connection, PERCENT, float(audit_percent))
    if stop_after is not None:
        if stop_after < 1:
            raise LedgerError(f"stop_after {stop_after}: 1 or more is needed")
        put(connection, STOP, int(stop_after))
