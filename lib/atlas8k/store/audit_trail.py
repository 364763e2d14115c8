"""Who did what, when, from where and why: written once, and each record holds the last one's hash.

Records are added in the transaction of what they record: either both are there or neither. The
tables refuse a change and a removal, whoever asks (schema.sql); whoever goes around that leaves a
chain that does not fit (:func:`verify`). What no chain shows is that its end was cut off: note
number and hash of the last record (:func:`head`) elsewhere from time to time.

Asked for by 21 CFR 11.10(e): "secure, computer-generated, time-stamped audit trails to
independently record the date and time of operator entries and actions that create, modify, or
delete electronic records. Record changes shall not obscure previously recorded information."

Nothing of a patient is in a record. A volume is the store's own number of it: its name is often a
patient's id, and who knows a hospital's ids finds the one behind a hash by trying them all; without
the store the number says nothing. What people typed as a reason may name somebody, too: a record
has its hash, the words are in a table beside it that is not exported.

There are no audit messages of DICOM PS3.15 A.5: they name hosts and people for a syslog collector,
and every kind of record here would need a mapping of its own to events that fit few of them.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from atlas8k.core.acting import Actor, actor
from atlas8k.core.errors import LedgerError

if TYPE_CHECKING:
    from atlas8k.store.transaction import Transaction

ACTIONS = (
    "begun",  # the chain; says what there was before
    "rebuilt",  # the store was made anew from label files
    "started",  # a server, with its version
    "settings",  # changed: which, from what to what
    "sign_in",  # a token was used for the first time
    "sample",  # a volume was given out
    "look",  # an image or label was fetched
    "sweep",  # the outlines of a label were looked at: fine, a flag, or taken back
    "label",  # submitted
    "confirm",  # submitted, and nothing of it was changed
    "import",  # a label that came with a dataset, or was in the folder
    "exclude",
    "include",
    "review",  # a decision about labels: accepted, chosen, restored, handed back
    "image",  # of the studies: added, removed
    "train",  # was started
    "publish",  # networks were
    "round",  # closed
    "export",  # labels or the store left it
)
"""What is recorded."""
NONE_BEFORE = "0" * 64
"""In place of a hash, in the first record."""
_LINE = re.compile(rb'(.*),"sha256":"([0-9a-f]{64})"\}', re.DOTALL)
_BATCH = 1000


# Written


def append(
    connection: sqlite3.Connection, at: float, action: str, by: Actor, **fields: Any
) -> None:
    """Add a record, within a write transaction.

    Parameters
    ----------
    at
        When it was, UTC seconds since 1970.
    fields
        JSON-ready; what is None or empty is left out.
    """
    if action not in ACTIONS:
        raise ValueError(f"{action}: is no kind of record")
    number, before = _last(connection)
    text = json.dumps(
        {
            "number": number + 1,
            "previous": before,
            "at": datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds"),
            "action": action,
            "by": by.who,
            "address": by.address,
            "software": by.software,
            **{key: value for key, value in fields.items() if value not in (None, "", {}, [])},
        },
        separators=(",", ":"),
        default=str,
    )
    connection.execute(
        "INSERT INTO audit_trail (id, text, sha256) VALUES (?,?,?)", (number + 1, text, _hash(text))
    )


def record(
    tx: Transaction,
    action: str,
    *,
    by: str | None = None,
    volume: int | None = None,
    why: str = "",
    **detail: Any,
) -> None:
    """Record what this transaction does; nothing where its store is made from files.

    Parameters
    ----------
    by
        Key of who does it, where that is not the :func:`actor`.
    volume
        Row of the volume.
    why
        The words stay in the store, the record has their hash.
    detail
        What else there is to say, JSON-ready: no name of a volume or file, nothing that was typed.
    """
    if not tx.audited:
        return
    acting = actor()
    if by:
        acting = Actor(by, acting.address, acting.software)
    why = why.encode(errors="replace").decode()  # the table takes no half of a character
    reason = _hash(why) if why else None
    if reason:
        tx.run("INSERT OR IGNORE INTO audit_reason VALUES (?,?)", reason, why)
    append(tx.connection, tx.now, action, acting, volume=volume, why_sha256=reason, detail=detail)


def note(
    tx: Transaction,
    /,
    action: str,
    *,
    by: str | None = None,
    volume: str | None = None,
    why: str = "",
    **detail: Any,
) -> None:
    """Record what no transaction does, of a volume by name; see :func:`record`."""
    row = None if volume is None else tx.value("SELECT id FROM volume WHERE name = ?", volume)
    record(tx, action, by=by, volume=row, why=why, **detail)


class Seen(NamedTuple):
    """Something that somebody did and that changed nothing: `times` within moments of `at`."""

    at: float
    action: str
    by: Actor
    volume: str | None
    detail: Mapping[str, Any]
    times: int = 1


def note_seen(tx: Transaction, seen: Iterable[Seen]) -> None:
    """Record what was seen in the last moments, in its order."""
    for one in seen:
        row = None
        if one.volume is not None:
            row = tx.value("SELECT id FROM volume WHERE name = ?", one.volume)
        times = one.times if one.times > 1 else None
        detail = dict(one.detail)
        append(tx.connection, one.at, one.action, one.by, volume=row, times=times, detail=detail)


def note_start(tx: Transaction, detail: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Record that a server starts, and which settings are others than at the start before.

    Parameters
    ----------
    settings
        JSON-ready values by name; those that may name a person or a place as hashes.
    """
    record(tx, "started", **detail)
    before = json.loads(tx.setting("audit:settings") or "{}")
    changed = {
        key: [before.get(key), settings.get(key)]
        for key in sorted({*before, *settings})
        if before.get(key) != settings.get(key)
    }
    if changed:
        tx.set("audit:settings", json.dumps(settings, sort_keys=True))
        record(tx, "settings", changed=changed)


def begin(connection: sqlite3.Connection, at: float, **detail: Any) -> None:
    """Begin the chain, in a store that has none."""
    append(connection, at, "begun", actor(), detail=detail)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _last(connection: sqlite3.Connection) -> tuple[int, str]:
    found = connection.execute(
        "SELECT id, sha256 FROM audit_trail ORDER BY id DESC LIMIT 1"
    ).fetchone()
    return (0, NONE_BEFORE) if found is None else (int(found[0]), str(found[1]))


# Read


class Head(NamedTuple):
    """The last record: its number, which is how many there are, and its hash."""

    number: int
    sha256: str


def head(tx: Transaction) -> Head:
    """Return number and hash of the last record: what to note elsewhere."""
    return Head(*_last(tx.connection))


def lines(tx: Transaction) -> Iterator[bytes]:
    """Yield every record as a line of JSON, the first one first."""
    rows = tx.run("SELECT text, sha256 FROM audit_trail ORDER BY id")
    while batch := rows.fetchmany(_BATCH):
        for text, sha256 in batch:
            yield f'{text[:-1]},"sha256":"{sha256}"}}\n'.encode()


def lost_reasons(tx: Transaction) -> tuple[int, int]:
    """Return how many reasons are not the words that were typed, and how many are gone."""
    changed = sum(_hash(text) != sha256 for sha256, text in tx.run("SELECT * FROM audit_reason"))
    gone = tx.value(
        "SELECT count(DISTINCT why) FROM (SELECT json_extract(text, '$.why_sha256') AS why"
        " FROM audit_trail) WHERE why IS NOT NULL"
        " AND why NOT IN (SELECT sha256 FROM audit_reason)"
    )
    return changed, int(gone)


# Verified


class Verified(NamedTuple):
    """What a chain is like.

    ``number`` records fit, the last of them has the hash ``sha256``; ``fault`` says of the one
    after them why it does not, and is empty where there is none.
    """

    number: int
    sha256: str
    fault: str = ""
    noted: bool | None = None


def verify(records: Iterable[bytes], noted: Head | None = None) -> Verified:
    """Return how far records, one a line, are the chain that was written.

    Parameters
    ----------
    noted
        A head that was noted earlier; ``Verified.noted``: whether it is in the chain still.
    """
    count, before, found = 0, NONE_BEFORE, None
    if noted is not None and noted.number == 0:
        found = noted.sha256 == NONE_BEFORE
    for line in records:
        fault = _fault(line, count + 1, before)
        if fault:
            return Verified(count, before, f"record {count + 1}: {fault}", found)
        count, before = count + 1, line[-67:-3].decode()
        if noted is not None and noted.number == count:
            found = noted.sha256 == before
    return Verified(count, before, "", bool(found) if noted is not None else None)


def _fault(line: bytes, number: int, before: str) -> str:
    """Return why a line is not the record that belongs here; empty where it is."""
    parts = _LINE.fullmatch(line[:-1]) if line.endswith(b"\n") else None
    if parts is None:
        return "is no record, or is cut off"
    body = parts[1] + b"}"
    if hashlib.sha256(body).hexdigest() != parts[2].decode():
        return "was changed: it does not have the hash that it was written with"
    try:
        held = json.loads(body)
        found, previous = held["number"], held["previous"]
    except (ValueError, KeyError, TypeError):
        return "is no record"
    if found != number:
        return f"the one that is here has number {found}: records are missing, or in another order"
    if previous != before:
        return "does not follow the one before it, which is another than when it was written"
    return ""


def read_head(text: str) -> Head:
    """Return a head as it was noted, ``COUNT:SHA256``.

    Raises
    ------
    LedgerError
        It is none.
    """
    count, _, sha256 = text.strip().partition(":")
    if not count.isdecimal() or not re.fullmatch("[0-9a-f]{64}", sha256):
        raise LedgerError(f"{text!r}: number and hash of a record are needed, as 120:3f9c...")
    return Head(int(count), sha256)
