"""Model signatures, the scores measured under them, and how far scoring has come."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping
from typing import Any

from atlas8k.errors import LedgerError
from atlas8k.ledger import ranking, rankings
from atlas8k.ledger.errors import UnknownSignatureError
from atlas8k.ledger.records import OrganScore, Progress
from atlas8k.ledger.scale import bucket
from atlas8k.ledger.volumes import volume_id
from atlas8k.organs import ORGAN_IDS, ORGAN_NAMES

_SWEEP_VOLUMES = 2  # cleared from a superseded queue with each score: it ends before that


def signature_id(connection: sqlite3.Connection, name: str) -> int:
    """Row of the signature; :class:`UnknownSignatureError` where there is none."""
    row = connection.execute("SELECT id FROM signature WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise UnknownSignatureError(name)
    return int(row[0])


def register(
    connection: sqlite3.Connection, name: str, detail: Mapping[str, Any], now: float
) -> bool:
    """Note a signature; False where it is known already (its detail then stays as it was)."""
    cursor = connection.execute(
        "INSERT INTO signature (name, detail, registered_at) VALUES (?,?,?) ON CONFLICT DO NOTHING",
        (name, json.dumps(detail, sort_keys=True, default=str), now),
    )
    return cursor.rowcount == 1


def detail(connection: sqlite3.Connection, name: str) -> dict[str, Any]:
    row = connection.execute("SELECT detail FROM signature WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise UnknownSignatureError(name)
    return dict(json.loads(row[0]))


def _checked(volume: str, sizes: Mapping[str, OrganScore]) -> dict[int, OrganScore]:
    unknown = [organ for organ in sizes if organ not in ORGAN_IDS]
    if unknown:
        raise LedgerError(
            f"{volume}: no organ is called {', '.join(unknown)}; there are {', '.join(ORGAN_NAMES)}"
        )
    scores = {
        ORGAN_IDS[organ]: OrganScore(
            *map(float, size[:4]),
            *(None if figure is None else float(figure) for figure in size[4:]),
        )
        for organ, size in sizes.items()
    }
    for organ, score in scores.items():
        if not all(term is None or (math.isfinite(term) and term >= 0) for term in score):
            raise LedgerError(
                f"{volume}: {ORGAN_NAMES[organ - 1]}: a size must be a number of millilitres "
                f"of 0 or more, not {score}"
            )
    return scores


def record_score(
    connection: sqlite3.Connection,
    volume: str,
    signature: str,
    sizes: Mapping[str, OrganScore],
    seconds: float | None,
    now: float,
    explanation: Mapping[str, Any] | None = None,
) -> None:
    """One row for the volume and one an organ, in place of what was there."""
    scores = _checked(volume, sizes)
    v, s = volume_id(connection, volume), signature_id(connection, signature)
    known = ranking.known_organs(connection, v)
    ruling = rankings.in_force(connection)
    figures = {o: getattr(score, rankings.column(ruling)) for o, score in scores.items()}
    if None in figures.values():
        raise LedgerError(f"{volume}: no figures for ranking {ruling}, which is in force")
    _replace(connection, v, s)
    total = math.fsum(score.attention_ml for score in scores.values())
    rank = math.fsum(figure for o, figure in figures.items() if o not in known)
    connection.execute(
        "INSERT INTO result (volume, signature, at, seconds, attention_ml, rank_ml, bucket,"
        " counted) VALUES (?,?,?,?,?,?,?, (SELECT counted FROM volume WHERE id = ?))",
        (v, s, now, seconds, total, rank, bucket(rank), v),
    )
    connection.executemany(
        "INSERT INTO score (volume, signature, organ, ranked, attention_ml, inconsistency_ml,"
        " uncertainty_ml, overlap_ml, salient_ml, per_slice_ml) VALUES (?,?,?,?,?,?,?,?,?,?)",
        [(v, s, organ, organ not in known, *scores[organ]) for organ in sorted(scores)],
    )
    if explanation is not None:
        rankings.keep_explanation(connection, v, s, explanation)
    connection.execute("UPDATE volume SET failed = 0 WHERE id = ? AND failed", (v,))
    ranking.enqueue(connection, v, s)
    _mark_complete(connection, s, now)
    _clear_garbage(connection)


def record_failure(
    connection: sqlite3.Connection, volume: str, signature: str, reason: str, now: float
) -> None:
    """The volume could not be scored under this signature, and why."""
    v, s = volume_id(connection, volume), signature_id(connection, signature)
    _replace(connection, v, s)
    connection.execute(
        "INSERT INTO result (volume, signature, at, reason, counted)"
        " VALUES (?,?,?,?, (SELECT counted FROM volume WHERE id = ?))",
        (v, s, now, reason or "unknown reason", v),
    )
    connection.execute("UPDATE volume SET failed = 1 WHERE id = ?", (v,))
    _mark_complete(connection, s, now)


def _replace(connection: sqlite3.Connection, volume: int, signature: int) -> None:
    key = (volume, signature)
    connection.execute("DELETE FROM queue WHERE volume = ? AND signature = ?", key)
    connection.execute("DELETE FROM result WHERE volume = ? AND signature = ?", key)


def _mark_complete(connection: sqlite3.Connection, signature: int, now: float) -> None:
    """Note the first time that nothing was stale; from then on this signature is ranked by.

    The queues of signatures registered before are not needed any more.
    """
    done = connection.execute(
        "UPDATE signature SET completed_at = ? WHERE id = ? AND completed_at IS NULL"
        " AND scored > 0 AND scored + failed >= (SELECT counted FROM tally)",
        (now, signature),
    )
    if done.rowcount:
        connection.execute("UPDATE signature SET live = 0 WHERE id < ?", (signature,))


def mark_all_complete(connection: sqlite3.Connection, now: float) -> None:
    """After volumes went: what remains may be complete."""
    open_ones = connection.execute("SELECT id FROM signature WHERE completed_at IS NULL")
    for (signature,) in open_ones.fetchall():
        _mark_complete(connection, signature, now)


def _clear_garbage(connection: sqlite3.Connection) -> None:
    """A little at a time: all at once would hold the write lock for seconds."""
    dead = connection.execute(
        "SELECT id FROM signature WHERE live = 0 AND swept = 0 LIMIT 1"
    ).fetchone()
    if dead is None:
        return
    gone = connection.execute(
        "DELETE FROM queue WHERE signature = ?1 AND volume IN"
        " (SELECT volume FROM queue WHERE signature = ?1 AND organ = 0 LIMIT ?2)",
        (dead[0], _SWEEP_VOLUMES),
    )
    if not gone.rowcount:
        connection.execute("UPDATE signature SET swept = 1 WHERE id = ?", dead)


def retry_failures(connection: sqlite3.Connection, signature: str) -> int:
    """Make failed volumes stale again; returns how many."""
    s = signature_id(connection, signature)
    connection.execute(
        "UPDATE volume SET failed = 0 WHERE failed AND id IN"
        " (SELECT volume FROM result WHERE signature = ? AND reason IS NOT NULL)",
        (s,),
    )
    return connection.execute(
        "DELETE FROM result WHERE signature = ? AND reason IS NOT NULL", (s,)
    ).rowcount


def stale(connection: sqlite3.Connection, signature: str, limit: int | None) -> list[str]:
    """Volumes to score: those an annotator may get first, by what they scored last."""
    s = signature_id(connection, signature)
    rows = connection.execute(
        "SELECT v.name FROM volume v LEFT JOIN result r ON r.volume = v.id AND r.signature ="
        " (SELECT max(p.id) FROM signature p WHERE p.id <> ? AND p.completed_at IS NOT NULL)"
        " WHERE v.counted = 1 AND NOT EXISTS"
        " (SELECT 1 FROM result n WHERE n.volume = v.id AND n.signature = ?)"
        " ORDER BY v.status <> 'open', r.rank_ml DESC, v.name LIMIT ?",
        (s, s, -1 if limit is None else limit),
    )
    return [row[0] for row in rows]


def failures(connection: sqlite3.Connection, signature: str) -> dict[str, str]:
    """Reason by volume."""
    return dict(
        connection.execute(
            "SELECT v.name, r.reason FROM result r JOIN volume v ON v.id = r.volume"
            " WHERE r.signature = ? AND r.reason IS NOT NULL AND r.counted = 1 ORDER BY v.name",
            (signature_id(connection, signature),),
        )
    )


def progress(connection: sqlite3.Connection, signature: str) -> Progress:
    row = connection.execute(
        "SELECT s.scored, s.failed, t.counted, s.completed_at FROM signature s, tally t"
        " WHERE s.name = ?",
        (signature,),
    ).fetchone()
    if row is None:
        raise UnknownSignatureError(signature)
    return Progress(*row)


def last_signature(connection: sqlite3.Connection) -> str | None:
    """The signature registered last; earlier networks, where a round was opened with those since.

    None where nothing is registered.
    """
    row = connection.execute(
        "SELECT name FROM (SELECT name, registered_at AS at, id FROM signature UNION ALL"
        " SELECT s.name, r.opened_at, s.id FROM round r JOIN signature s ON s.id = r.signature)"
        " ORDER BY at DESC, id DESC LIMIT 1"
    ).fetchone()
    return None if row is None else str(row[0])


def ranking_signature(connection: sqlite3.Connection, current: str) -> str | None:
    """Which signature to rank by while `current` is being scored.

    The current one from when it was first complete (volumes that appear later are just
    unscored), else the one that was complete last, else the current one if registered.
    """
    row = connection.execute(
        "SELECT name FROM signature WHERE name = ? OR completed_at IS NOT NULL"
        " ORDER BY completed_at IS NOT NULL AND name = ? DESC, completed_at IS NOT NULL DESC,"
        " completed_at DESC, id DESC LIMIT 1",
        (current, current),
    ).fetchone()
    return None if row is None else str(row[0])
