"""What people decided about volumes, kept in a file beside the ledger as well.

No label file says that a CT is not usable. So each decision of a person is written to
``<ledger>-decisions.json`` too, from which a ledger that is made anew has it. What the look at
a volume's content finds is not in it: that is found again.
"""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from pathlib import Path

from atlas8k.errors import LedgerError
from atlas8k.ledger import volumes
from atlas8k.ledger.usability import PERSON

_COLUMNS = ("usable", "reason", "holder", "at", "fingerprint")


def decisions_file(ledger: Path) -> Path:
    """Where the decisions of a ledger are kept."""
    return ledger.with_name(f"{ledger.stem}-decisions.json")


def keep(connection: sqlite3.Connection, ledger: Path) -> None:
    """Write the file anew, before the transaction ends: nobody else writes it meanwhile.

    Raises
    ------
    LedgerError
        It cannot be written.
    """
    from atlas8k.volume import publish

    rows = connection.execute(
        f"SELECT v.name, u.{', u.'.join(_COLUMNS)} FROM usability u"
        " JOIN volume v ON v.id = u.volume WHERE u.kind = ? ORDER BY u.id",
        (PERSON,),
    )
    said = {"decisions": [dict(zip(("volume", *_COLUMNS), row, strict=True)) for row in rows]}
    target, temporary = decisions_file(ledger), None
    try:
        handle, name = tempfile.mkstemp(prefix=".", dir=target.parent)
        temporary = Path(name)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(said, stream, indent=1)
        publish(temporary, target)
    except OSError as error:
        raise LedgerError(f"{target}: cannot be written ({error}); nothing was changed") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def restore(connection: sqlite3.Connection, ledger: Path, now: float) -> int:
    """Read the decisions about volumes into a ledger that has none; how many there were.

    Raises
    ------
    LedgerError
        The file cannot be read.
    """
    path = decisions_file(ledger)
    try:
        told = json.loads(path.read_text(encoding="utf-8"))["decisions"]
        rows = [(one["volume"], *(one[name] for name in _COLUMNS)) for one in told]
    except FileNotFoundError:
        return 0
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LedgerError(f"{path}: cannot be read ({error!r})") from error
    gone = {row[0] for row in rows if volumes.find(connection, row[0]) is None}
    volumes.add(connection, gone, now)
    volumes.remove(connection, gone)
    for name, usable, reason, holder, at, fingerprint in rows:
        connection.execute(
            f"INSERT INTO usability (volume, kind, {', '.join(_COLUMNS)})"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (volumes.volume_id(connection, name), PERSON, usable, reason, holder, at, fingerprint),
        )
        volumes.exclude(connection, name, None if usable else reason)
    return len(rows)
