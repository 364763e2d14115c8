"""Whether a volume is usable: decided by people, or set aside for what its content looks like.

People have the last word. What the look at a volume's content sets aside stays so until a
person includes it; what a person included or excluded is not touched by another look, unless
the file is another one by then.

No label file says that a CT is not usable. So each decision of a person is written to
``<ledger>-decisions.json`` too, from which a ledger that is made anew has it. What the look at
a volume's content finds is not in it: that is found again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from atlas8k.core.errors import LedgerError
from atlas8k.store import audit_trail, leases, scores, volumes
from atlas8k.store.records import Holder, Usability
from atlas8k.store.transaction import Transaction

PERSON = "person"
_COLUMNS = ("usable", "reason", "holder", "at", "fingerprint")


def exclude(tx: Transaction, volume: str, reason: str, holder: Holder | None = None) -> None:
    """Count a volume nowhere (chest CT, motion) until somebody includes it.

    Whoever excludes it no longer holds it; submissions are still accepted.

    Raises
    ------
    UnknownVolumeError
        It was never seen.
    LedgerError
        No reason is given.
    """
    if not reason.strip():
        raise LedgerError(f"{volume}: say why it is not usable")
    _decide(tx, volume, usable=False, reason=reason.strip(), holder=holder)
    if holder is not None:
        leases.release(tx, volume, holder)
    scores.mark_complete(tx)
    _write_decisions(tx)


def include(tx: Transaction, volume: str, reason: str = "", holder: Holder | None = None) -> bool:
    """Let a volume count again; False where it does.

    Raises
    ------
    UnknownVolumeError
        It was never seen.
    """
    row = volumes.volume_row(tx, volume)
    if tx.value("SELECT excluded_reason FROM volume WHERE id = ?", row) is None:
        return False
    _decide(tx, volume, usable=True, reason=reason, holder=holder)
    _write_decisions(tx)
    return True


def judge_content(tx: Transaction, volume: str, kind: str | None, reason: str = "") -> bool:
    """Set a volume aside for what its content looks like, or let it count again.

    Parameters
    ----------
    kind
        What was found; ``None``: nothing that would keep it out.

    Returns
    -------
    bool
        Whether that changed anything; what people decided about this file stays.
    """
    last = tx.find(
        "SELECT u.usable, u.kind, u.reason, u.fingerprint IS v.fingerprint FROM usability u"
        " JOIN volume v ON v.id = u.volume WHERE u.volume = ? ORDER BY u.id DESC LIMIT 1",
        volumes.volume_row(tx, volume),
    )
    usable, by, why, same_file = last or (True, None, None, True)
    if by == PERSON and (same_file or not usable):
        return False
    if (kind is None) if usable else ((by, why) == (kind, reason)):
        return False
    if kind is None:
        reason = "nothing is wrong with its content any more"
    _decide(tx, volume, usable=kind is None, reason=reason, kind=kind or "content")
    scores.mark_complete(tx)
    return True


def _decide(
    tx: Transaction,
    volume: str,
    *,
    usable: bool,
    reason: str,
    holder: Holder | None = None,
    kind: str = PERSON,
) -> None:
    row = volumes.volume_row(tx, volume)
    tx.insert(
        "usability",
        volume=row,
        usable=usable,
        kind=kind,
        reason=reason,
        holder="" if holder is None else holder.key,
        at=tx.now,
        fingerprint=tx.value("SELECT fingerprint FROM volume WHERE id = ?", row),
    )
    tx.run("UPDATE volume SET excluded_reason = ? WHERE id = ?", None if usable else reason, row)
    action, by = "include" if usable else "exclude", None if holder is None else holder.key
    audit_trail.record(tx, action, by=by, volume=row, why=reason, kind=kind)


def not_usable(tx: Transaction) -> list[Usability]:
    """Return the current decision on each volume that is there and counts nowhere, by name."""
    return _decisions(
        tx,
        "v.present AND v.excluded_reason IS NOT NULL"
        " AND u.id = (SELECT max(id) FROM usability WHERE volume = v.id) ORDER BY v.name",
    )


def history(tx: Transaction, volume: str) -> list[Usability]:
    """Return every decision whether a volume is usable, oldest first."""
    return _decisions(tx, "v.id = ? ORDER BY u.id", volumes.volume_row(tx, volume))


def _decisions(tx: Transaction, where: str, *values: Any) -> list[Usability]:
    rows = tx.run(
        "SELECT v.name, u.usable, u.kind, u.reason, u.holder, u.at FROM usability u"
        f" JOIN volume v ON v.id = u.volume WHERE {where}",
        *values,
    )
    return [Usability(name, bool(usable), *rest) for name, usable, *rest in rows]


# The file of people's decisions


def decisions_file(ledger: Path) -> Path:
    """Return where the decisions of a ledger are kept."""
    return ledger.with_name(f"{ledger.stem}-decisions.json")


def _write_decisions(tx: Transaction) -> None:
    """Write the file anew, before the transaction ends: nobody else writes it meanwhile."""
    from atlas8k.core.files import publishing

    rows = tx.run(
        f"SELECT v.name, u.{', u.'.join(_COLUMNS)} FROM usability u"
        " JOIN volume v ON v.id = u.volume WHERE u.kind = ? ORDER BY u.id",
        PERSON,
    )
    decisions = [dict(zip(("volume", *_COLUMNS), row, strict=True)) for row in rows]
    target = decisions_file(tx.path)
    try:
        with publishing(target) as temporary:
            temporary.write_text(json.dumps({"decisions": decisions}, indent=1), encoding="utf-8")
    except OSError as error:
        raise LedgerError(f"{target}: cannot be written ({error}); nothing was changed") from error


def restore_decisions(tx: Transaction, ledger: Path) -> int:
    """Take over what people decided about volumes under a ledger that is lost; how many.

    Raises
    ------
    LedgerError
        Its file of decisions cannot be read.
    """
    path = decisions_file(ledger)
    try:
        decisions = json.loads(path.read_text(encoding="utf-8"))["decisions"]
        rows = [(one["volume"], {name: one[name] for name in _COLUMNS}) for one in decisions]
    except FileNotFoundError:
        return 0
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LedgerError(f"{path}: cannot be read ({error!r})") from error
    gone = {name for name, _ in rows if volumes.find(tx, name) is None}
    volumes.add(tx, gone)
    volumes.remove(tx, gone)
    for name, decision in rows:
        row = volumes.volume_row(tx, name)
        tx.insert("usability", volume=row, kind=PERSON, **decision)
        reason = None if decision["usable"] else decision["reason"]
        tx.run("UPDATE volume SET excluded_reason = ? WHERE id = ?", reason, row)
    return len(rows)
