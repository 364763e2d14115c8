"""Runs of scoring and training: how far, how fast, how long still."""

from __future__ import annotations

import os
import socket
import sqlite3
from typing import cast

from atlas8k.ledger.records import Run


def begin(
    connection: sqlite3.Connection, kind: str, signature: int | None, total: int, now: float
) -> int:
    cursor = connection.execute(
        "INSERT INTO run (kind, signature, host, pid, started_at, beat_at, total)"
        " VALUES (?,?,?,?,?,?,?)",
        (kind, signature, socket.gethostname(), os.getpid(), now, now, total),
    )
    return cast(int, cursor.lastrowid)


def beat(
    connection: sqlite3.Connection, run: int, done: int, total: int | None, now: float
) -> None:
    connection.execute(
        "UPDATE run SET done = ?, total = coalesce(?, total), beat_at = ? WHERE id = ?",
        (done, total, now, run),
    )


def end(connection: sqlite3.Connection, run: int, note: str, now: float) -> None:
    connection.execute(
        "UPDATE run SET ended_at = ?1, beat_at = ?1, note = ?2 WHERE id = ?3 AND ended_at IS NULL",
        (now, note, run),
    )


def last(connection: sqlite3.Connection, kind: str) -> Run | None:
    row = connection.execute(
        "SELECT r.id, r.kind, s.name, r.pid, r.started_at, r.beat_at, r.ended_at, r.done,"
        " r.total, r.note FROM run r LEFT JOIN signature s ON s.id = r.signature"
        " WHERE r.kind = ? ORDER BY r.id DESC LIMIT 1",
        (kind,),
    ).fetchone()
    return None if row is None else Run(*row)
