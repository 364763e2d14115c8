"""Gold cases: volumes whose label the owner of a campaign knows, mixed in with the others.

Their names are kept here, never their labels. A known holder gets one in each block of samples,
at a place in it that a secret of the campaign decides, so that nobody can count it out. The first
to get one reads it as any other; whoever gets it later reads it blind, from the same draft label:
a submission of purpose ``gold``, which is never current and asks nobody anything. One that is open
again, with a submission, is corrected like any other by who has not read it so. To tell such a
volume from others, an annotator would have to see a colleague's reading of it: :func:`seen` says
what each may see, and :func:`views` let all that is counted and listed follow from that.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable
from typing import NamedTuple

from atlas8k.store.transaction import Transaction

_NAMES, _SECRET = "gold", "gold:secret"
BLIND = ("double_read", "gold")
"""Purposes of readings beside another, which neither reader knew."""
_OF = "v.name IN (SELECT value FROM json_each((SELECT value FROM setting WHERE key = 'gold')))"
READ = (
    "EXISTS (SELECT 1 FROM submission b"
    " WHERE b.volume = v.id AND b.holder = {} AND b.purpose = 'gold')"
)
"""Of a volume ``v``: this holder has read it beside another."""
_AUTHOR = "coalesce((SELECT o.holder FROM submission o WHERE o.id = p.restored), p.holder)"


class Seen(NamedTuple):
    """What an annotator sees of a gold case that somebody has submitted.

    ``own`` is the number of the last submission of theirs, None: the case looks open to them;
    ``is_current``: it is the one that counts, or that they may correct, and nothing is hidden but
    others' readings.
    """

    holder: str
    own: int | None
    is_current: bool


def set_volumes(tx: Transaction, names: Iterable[str]) -> None:
    """Keep the names of the gold cases, for all processes; those of before are forgotten."""
    text = json.dumps(sorted(names))
    if text != (tx.setting(_NAMES) or "[]"):
        tx.set(_NAMES, text)


def volumes(tx: Transaction) -> frozenset[str]:
    """Return the names of the gold cases."""
    return frozenset(json.loads(tx.setting(_NAMES) or "[]"))


def is_gold(tx: Transaction, row: int) -> bool:
    """Return whether a volume is a gold case."""
    return tx.exists(f"SELECT 1 FROM volume v WHERE v.id = ? AND {_OF}", row)


def is_due(tx: Transaction, holder: str, percent: float) -> bool:
    """Return whether a holder's next sample is a gold case, so many per cent of them all.

    Of every ``round(100 / percent)`` samples one is, or was by chance. Which one is decided by
    a hash that nobody can work out without the store.
    """
    if percent <= 0 or not volumes(tx):
        return False
    each = max(2, round(100 / percent))
    given = [
        bool(gold)
        for gold, _ in tx.run(
            f"SELECT {_OF}, min(l.id) AS first FROM lease l JOIN volume v ON v.id = l.volume"
            " WHERE l.holder = ? AND l.purpose <> 'review' GROUP BY l.volume ORDER BY first",
            holder,
        )
    ]
    block, place = divmod(len(given), each)
    secret = tx.setting(_SECRET)
    if secret is None:
        secret = secrets.token_hex(16)
        tx.set(_SECRET, secret)
    drawn = hashlib.sha256(f"{secret} {holder} {block}".encode()).digest()
    return place >= int.from_bytes(drawn[:8]) % each and not any(given[len(given) - place :])


def next_volume(
    tx: Transaction, holder: str, source: str | None, instead: int | None, s: int | None
) -> tuple[int, str] | None:
    """Return the gold case for a holder who has never had it, and the purpose; None: there is none.

    Parameters
    ----------
    source
        Only of this source dataset.
    instead
        The volume in whose place it comes: the one that ranks most like it is chosen.
    s
        Row of the model version to rank by.
    """
    found = tx.find(
        "SELECT v.id, v.status <> 'open' FROM volume v"
        " LEFT JOIN result r ON r.volume = v.id AND r.model_version = ?3"
        f" WHERE {_OF} AND v.counted = 1 AND v.failed = 0 AND v.lease IS NULL"
        " AND (?2 IS NULL OR v.source = ?2)"
        " AND NOT EXISTS (SELECT 1 FROM offer o WHERE o.volume = v.id)"
        " AND NOT EXISTS (SELECT 1 FROM lease l WHERE l.volume = v.id AND l.holder = ?1)"
        " AND NOT EXISTS (SELECT 1 FROM submission p WHERE p.volume = v.id AND p.holder = ?1)"
        " AND (v.status = 'open' OR (SELECT p.start_sha256"
        "  FROM submission p WHERE p.volume = v.id ORDER BY p.id LIMIT 1) IS NOT NULL)"
        " ORDER BY abs(coalesce(r.rank_ml, 0) - coalesce((SELECT rank_ml FROM result"
        "  WHERE volume = ?4 AND model_version = ?3), 0)), v.id LIMIT 1",
        *(holder, source, s, instead),
    )
    return None if found is None else (int(found[0]), "gold" if found[1] else "revise")


def looks_like_audit(tx: Transaction, row: int, number: int | None) -> bool:
    """Return whether a gold case would come as an audit if it came by itself.

    So is said of one that ranks behind the budget, where audits are drawn.
    """
    return number is not None and tx.exists(
        "SELECT 1 FROM plan p WHERE p.round = ?1 AND p.audits AND NOT EXISTS (SELECT 1"
        " FROM plan_volume a WHERE a.round = ?1 AND a.volume = ?2 AND a.place <= p.top)",
        *(number, row),
    )


def seen(tx: Transaction, holder: str) -> dict[str, Seen]:
    """Return what a holder (key) sees of the gold cases that were submitted, by name."""
    rows = tx.run(
        f"SELECT v.name, p.id, {_AUTHOR} = ?1 OR (v.status = 'open' AND NOT {READ.format('?1')}"
        "  AND NOT EXISTS (SELECT 1 FROM lease l"
        "   WHERE l.id = v.lease AND l.holder = ?1 AND l.purpose = 'gold')),"
        " (SELECT max(m.id) FROM submission m WHERE m.volume = v.id AND m.holder = ?1)"
        f" FROM volume v JOIN submission p ON p.id = v.current_submission WHERE {_OF}",
        holder,
    )
    return {
        name: Seen(holder, current if is_own else last, bool(is_own))
        for name, current, is_own, last in rows
    }


SHADOWED = ("submission", "lease", "volume", "review", "round", "plan")
"""Tables that look otherwise to who may not see others' readings of gold cases."""


def views(tx: Transaction, holder: str) -> list[str]:
    """Return SQL of views that stand before the tables, temporarily, for a holder (key).

    Of a gold case they show that holder's own readings as readings like any other, the last of
    which is current, and nobody else's; nor who else has it in hand.
    """
    known = {
        tx.value("SELECT id FROM volume WHERE name = ?", name): one
        for name, one in seen(tx, holder).items()
    }
    if not known:
        return []
    me = "'" + holder.replace("'", "''") + "'"
    every = ", ".join(map(str, known))
    masked = {row: one.own for row, one in known.items() if not one.is_current}
    hidden = ", ".join(map(str, masked))
    status = " ".join(
        f"WHEN {row} THEN '{'submitted' if own else 'open'}'" for row, own in masked.items()
    )
    current = " ".join(f"WHEN {row} THEN {own or 'NULL'}" for row, own in masked.items())
    mine = f"volume NOT IN ({{}}) OR holder = {me}"
    held = "CASE WHEN t.lease IN (SELECT id FROM temp.lease) THEN t.lease END"
    revised = (
        "(SELECT count(DISTINCT p.volume) FROM temp.submission p WHERE p.round = t.id"
        " AND p.purpose = 'revise'{})"
    )
    audits = (  # also what came as one
        " AND (EXISTS (SELECT 1 FROM main.plan_volume a WHERE a.round = t.id"
        " AND a.volume = p.volume AND a.audit)"
        " OR EXISTS (SELECT 1 FROM main.lease l WHERE l.id = p.lease AND l.strategy = 'audit'))"
    )
    before = (
        "(SELECT count(DISTINCT p.volume) FROM {}.submission p WHERE p.round = t.round"
        " AND p.purpose = 'revise' AND p.submitted_at < t.drawn_at)"
    )
    instead = {
        "submission": {
            "purpose": "CASE WHEN t.purpose <> 'gold' THEN t.purpose"
            " WHEN t.restored IS NULL THEN 'revise' ELSE 'restore' END"
        },
        "volume": {
            "status": f"CASE t.id {status} ELSE t.status END" if masked else "t.status",
            "current_submission": f"CASE t.id {current} ELSE t.current_submission END"
            if masked
            else "t.current_submission",
            "lease": held,
        },
        "plan": {
            "reviewed": f"t.reviewed - {before.format('main')} + {before.format('temp')}",
        },
        "round": {
            "reviewed": revised.format(""),
            "audited": revised.format(audits),
        },
    }
    where = {
        "submission": f"(t.purpose <> 'gold' OR t.holder = {me}) AND ({mine.format(hidden)})",
        "lease": mine.format(every),
        "review": f"t.volume NOT IN ({hidden})",
    }
    return [
        f"CREATE TEMP VIEW {table} AS SELECT "
        + ", ".join(
            f"{instead.get(table, {}).get(name, f't.{name}')} AS {name}"
            for _, name, *_ in tx.run(f"PRAGMA main.table_xinfo({table})")
        )
        + f" FROM main.{table} t WHERE {where.get(table, '1')}"
        for table in SHADOWED
    ]
