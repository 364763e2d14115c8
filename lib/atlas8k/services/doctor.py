"""What is wrong with a studies folder, and what to do about it; done where that can be undone.

What is mended is put back from a copy that has its hash, or made again from what is there;
whatever is in the way is moved aside. Nothing is deleted.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from atlas8k.core.errors import CheckpointError, LedgerError, VolumeError
from atlas8k.core.files import only_one
from atlas8k.labels.provenance import read_provenance
from atlas8k.models.store import ModelStore
from atlas8k.services.backups.make import last_backup
from atlas8k.services.backups.place import Place
from atlas8k.services.backups.restore import SERVER_LOCK
from atlas8k.services.backups.target import BackupTarget
from atlas8k.services.labels.integrity import LabelIntegrity
from atlas8k.services.rebuild import NOT_REBUILT, rebuild_ledger
from atlas8k.services.studies.folder import StudiesFolder
from atlas8k.services.studies.import_state import FOLDER_FILE
from atlas8k.services.studies.labels import HISTORY
from atlas8k.services.studies.names import LABELS_FOLDER
from atlas8k.services.studies.opening import find_traces, use_structures
from atlas8k.services.studies.rejected import RejectedLabels
from atlas8k.store import Ledger, LedgerCorruptError, is_url
from atlas8k.store.schema import is_blank

Progress = Callable[[Iterable[str]], Iterable[str]]

_ROOM = 1 << 30
_OLD_BACKUP_S = 7 * 86400.0
_SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """Something about a studies folder that its owner should know.

    Attributes
    ----------
    what
        What was found.
    to_do
        What to do about it.
    done
        What was done about it; empty: nothing yet.
    wrong
        Whether something is wrong; else it is advice.
    """

    what: str
    to_do: str
    done: str = ""
    wrong: bool = True

    @property
    def is_left(self) -> bool:
        """Whether something is wrong still."""
        return self.wrong and not self.done


def examine(
    place: Place,
    *,
    fix: bool = False,
    backup: Path | None = None,
    progress: Progress = iter,
) -> Iterator[Finding]:
    """Look through a studies folder, its ledger, labels and networks; yield what is found.

    Parameters
    ----------
    fix
        Mend what can be mended, in a way that can be undone.
    backup
        Folder of backups that label files are put back from which are damaged in both places.
    progress
        Wraps the volumes whose label files are read.

    Raises
    ------
    BackupError
        `backup` is no folder of backups.
    """
    shelf = None if backup is None else BackupTarget(backup)
    found = _folder(place)
    yield from found
    if any(one.is_left for one in found):
        return
    damaged = _ledger_fault(place)
    if damaged is not None:
        if fix and damaged.to_do == _REBUILD:
            damaged = _rebuilt(place, damaged)
        yield damaged
        if damaged.is_left:
            return
    if is_blank(place.ledger):
        yield Finding("no campaign was begun here", "start the server on it", wrong=False)
        return
    ledger = Ledger(place.ledger)
    use_structures(ledger)
    folder = StudiesFolder(place.root, ledger=ledger, watch=False)
    try:
        integrity = LabelIntegrity(folder, source=None if shelf is None else shelf.find)
        for fault in integrity.check(progress(integrity.volumes()), mend=fix):
            yield Finding(f"{fault.volume}: {fault.file} {fault.found}", _MEND, fault.mended)
        yield from _unknown_files(place, ledger)
        yield from _lost_submissions(ledger)
        yield from _waiting(folder, integrity)
        yield from _backup_age(ledger)
    finally:
        folder.close()
    yield from _networks(place)


_REBUILD = (
    "bring it back with `atlas8k restore BACKUP`, or have it made from the label files: "
    "`atlas8k doctor --fix`, or `atlas8k ledger rebuild`"
)
_MEND = (
    "`atlas8k doctor --fix` sets it aside and puts it back from its other copy; where there is "
    "none, give --backup too"
)


def _folder(place: Place) -> list[Finding]:
    if not place.root.is_dir():
        return [Finding(f"{place.root}: there is no such folder", "give another --studies")]
    found = []
    for folder in (place.root, place.root / LABELS_FOLDER, place.state):
        if folder.exists() and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            to_do = f"let who runs the server write there: chown or chmod {folder}"
            found.append(Finding(f"{folder}: cannot be read or written", to_do))
    labels = place.root / LABELS_FOLDER
    for path in [labels, *(labels.iterdir() if labels.is_dir() else ())]:
        if path.is_symlink():
            to_do = "put a folder in the place of the link; labels are not written through one"
            found.append(Finding(f"{path}: is a link to {path.readlink()}", to_do))
    free = shutil.disk_usage(place.root).free
    if free < _ROOM:
        what = f"{place.root}: {free / 1e6:.0f} MB are free on its disk"
        found.append(Finding(what, "free some space: labels cannot be saved without"))
    return found


def _ledger_fault(place: Place) -> Finding | None:
    """Return what is wrong with the ledger file, None where it can be used."""
    path = place.ledger
    if is_blank(path):
        traces = find_traces(place.root, path)
        if not traces:
            return None
        state = "is empty" if path.exists() else "is missing"
        return Finding(f"{path}: the ledger {state}; {'; '.join(traces)}", _REBUILD)
    if (place.state / FOLDER_FILE).exists():
        return None  # of the release before: the next start takes it over
    try:
        with contextlib.closing(Ledger(path)) as ledger, ledger.read() as tx:
            said = tx.value("PRAGMA integrity_check(1)")
            broken = len(tx.run("PRAGMA foreign_key_check").fetchall())
    except LedgerCorruptError as error:
        return Finding(str(error), _REBUILD)
    except LedgerError as error:
        return Finding(str(error), "see there; nothing was changed")
    except sqlite3.DatabaseError as error:
        return Finding(f"{path}: is damaged ({error})", _REBUILD)
    if said != "ok" or broken:
        what = said if said != "ok" else f"{broken} rows name what is not there"
        return Finding(f"{path}: is damaged ({what})", _REBUILD)
    return None


def _rebuilt(place: Place, fault: Finding) -> Finding:
    if is_url(place.studies):
        return fault
    with only_one(place.state / SERVER_LOCK) as alone:
        if not alone:
            return replace(fault, to_do=f"stop the server, then {fault.to_do}")
        report, aside = rebuild_ledger(place.root, place.ledger)
    kept = f"; the one that was there: {aside[0]}" if aside else ""
    done = (
        f"made anew of {report.labels} label files, {report.submissions} submissions{kept}. "
        f"Not in label files: {NOT_REBUILT}"
    )
    return replace(fault, done=done)


def _unknown_files(place: Place, ledger: Ledger) -> Iterator[Finding]:
    """Yield kept label files that the ledger does not name."""
    with ledger.read() as tx:
        named = {row[0] for row in tx.run("SELECT file FROM label_version")}
        taken = {row[0] for row in tx.run("SELECT id FROM submission")}
    unanswered, lost = [], []
    for path in sorted((place.root / LABELS_FOLDER / HISTORY / "final").glob("*/*")):
        name = str(path.relative_to(place.root))
        if name in named or path.suffix == ".json":
            continue
        with contextlib.suppress(VolumeError):
            said = read_provenance(path)
            if said is not None and said.submission in taken:
                unanswered.append(name)
                continue
        lost.append(name)
    if unanswered:
        yield Finding(
            f"{len(unanswered)} label files were written and never recorded, such as "
            f"{', '.join(unanswered[:_SHOWN])}; their annotators got no reply",
            "nothing, or look at them: they are kept",
            wrong=False,
        )
    if lost:
        yield Finding(
            f"{len(lost)} submitted label files are not in the ledger, such as "
            f"{', '.join(lost[:_SHOWN])}: it is older than its labels, or a process was killed "
            "before it recorded the last of them",
            "`atlas8k ledger rebuild --replace` makes a ledger of all of them; look at them first",
        )


def _lost_submissions(ledger: Ledger) -> Iterator[Finding]:
    with ledger.read() as tx:
        rows = tx.run(
            "SELECT v.name, p.id FROM submission p JOIN volume v ON v.id = p.volume"
            " WHERE p.sha256 IS NOT NULL AND NOT EXISTS (SELECT 1 FROM label_version l"
            " WHERE l.image = v.name AND l.sha256 = replace(p.sha256, 'SHA256:', ''))"
        ).fetchall()
    if rows:
        shown = ", ".join(f"{number} of {name}" for name, number in rows[:_SHOWN])
        yield Finding(
            f"{len(rows)} submissions have no label file that the ledger knows, such as {shown}",
            "restore a backup that has them beside this folder, and compare",
        )


def _waiting(folder: StudiesFolder, integrity: LabelIntegrity) -> Iterator[Finding]:
    rejected = RejectedLabels(folder.labels).waiting()
    if rejected:
        yield Finding(
            f"{len(rejected)} labels that lay in the folder failed the checks",
            "see `atlas8k labels rejected`, take one in with `atlas8k labels accept`",
            wrong=False,
        )
    aside = integrity.set_aside.listed()
    if aside:
        shown = ", ".join(one.file for one in aside[-_SHOWN:])
        yield Finding(
            f"{len(aside)} altered label files are set aside, such as {shown}",
            "look at them, submit what is to count, then move them away",
            wrong=False,
        )


def _backup_age(ledger: Ledger) -> Iterator[Finding]:
    last = last_backup(ledger)
    if last is None:
        yield Finding("no backup was ever made", "`atlas8k backup FOLDER`", wrong=False)
    elif time.time() - last[0] > _OLD_BACKUP_S:
        days = (time.time() - last[0]) / 86400
        what = f"the last backup is {days:.0f} days old ({last[1]})"
        yield Finding(what, f"`atlas8k backup {last[1]}`", wrong=False)


def _networks(place: Place) -> Iterator[Finding]:
    store = ModelStore(place.models)
    to_do = "publish them again (`atlas8k weights publish`), or restore a backup with --models"
    try:
        served = store.served()
    except CheckpointError as error:
        yield Finding(f"{place.models}: no network can be used ({error})", to_do)
        return
    for reason in served.missing.values():
        yield Finding(f"{place.models}: {reason}", to_do)
    past = store.history()
    if past and past[-1]["set"] != served.folder:
        what = f"{place.models}: networks {past[-1]['set']} were to be served, {served.folder} are"
        yield Finding(what, to_do)
