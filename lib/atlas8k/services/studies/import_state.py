"""What the release before kept beside the ledger, taken into the one store, once.

``studies.sqlite3`` held what was known about images and labels, ``archive.sqlite3`` the series
of a DICOM archive. Both are read, entered in one transaction, and then renamed: a process that
is killed leaves either all of it to be done or only the renaming.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from atlas8k.core.files import locked, sha256_of
from atlas8k.services.studies.errors import StudiesFolderError
from atlas8k.services.studies.labels import HISTORY, TIME_FORMAT, LabelFiles
from atlas8k.services.studies.names import LABEL_SUFFIXES, split_suffix
from atlas8k.services.studies.scan import scan_tags
from atlas8k.store import FileIdentity, FolderIndex, NewLabel, label_files
from atlas8k.store.folder_index import ImageRow, RemarkRow, keep_image, keep_remarks
from atlas8k.store.transaction import Transaction

logger = logging.getLogger(__name__)

FOLDER_FILE, ARCHIVE_FILE = "studies.sqlite3", "archive.sqlite3"
_KINDS = {FOLDER_FILE: (0x41384B53, 2), ARCHIVE_FILE: (0x41384B44, 2)}
"""Application id, and the last version."""
_DONE = ".imported"
_SAY_S = 5.0

_LEASES = """UPDATE lease SET draft = coalesce(
  (SELECT lv.id FROM label_version lv JOIN volume v ON v.name = lv.image
   WHERE v.id = lease.volume AND lv.tag = 'original' AND lv.replaced_at > lease.taken_at
   ORDER BY lv.id LIMIT 1),
  (SELECT l.version FROM label l JOIN volume v ON v.name = l.image
   WHERE v.id = lease.volume AND l.tag = 'original')) WHERE ended_at IS NULL"""


def import_state(index: FolderIndex, root: Path) -> None:
    """Take in what the release before knew of a studies folder; nothing where it knew nothing.

    Parameters
    ----------
    root
        The studies folder, links resolved.

    Raises
    ------
    StudiesFolderError
        A file is not one of the release before; nothing was changed.
    """
    place = index.ledger.path.parent
    if not any((place / name).exists() for name in _KINDS):
        return
    with locked(place / "import.lock"):
        for name, take in ((FOLDER_FILE, _take_folder), (ARCHIVE_FILE, _take_archive)):
            if not (place / name).exists():
                continue
            with contextlib.closing(_opened(place / name)) as old:
                take(index, root, old)
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    (place / f"{name}{suffix}").rename(place / f"{name}{_DONE}{suffix}")
            logger.info("%s is in %s now", place / name, index.ledger.path)


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    try:
        kind = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.DatabaseError as error:
        connection.close()
        raise StudiesFolderError(path, f"cannot be read ({error}); move it away") from error
    known, last = _KINDS[path.name]
    if kind not in (0, known) or not version <= last:
        connection.close()
        raise StudiesFolderError(path, "not a file of the release before; move it away")
    return connection


def _is_done(tx: Transaction, name: str) -> bool:
    """Return whether a file was taken in before its renaming failed; note that it is now."""
    if tx.setting(f"imported:{name}") is not None:
        return True
    tx.set(f"imported:{name}", time.time())
    return False


def _take_folder(index: FolderIndex, root: Path, old: sqlite3.Connection) -> None:
    files = LabelFiles(root, index)
    tables = {row[0] for row in old.execute("SELECT name FROM sqlite_schema")}
    versions = list(_versions(root, files, old))
    # An editor that saves in place must not reach what is kept.
    for image_id, label, replaced_at, _ in versions:
        if replaced_at is None:
            with files.lock(image_id):
                files.replace_link_by_copy(image_id, label, label.tag)
    with index.ledger.write(durable=True) as tx:
        if _is_done(tx, FOLDER_FILE):
            return
        for image_id, info, removed in old.execute("SELECT id, info, removed FROM image"):
            keep_image(tx, ImageRow(image_id, info, removed))
        for row in old.execute("SELECT * FROM checksum"):
            tx.run("INSERT OR REPLACE INTO checksum VALUES (?,?,?,?,?)", *row)
        if "remark" in tables:
            for row in old.execute(
                "SELECT id, source, size, mtime_ns, inode, stamp, remarks FROM remark"
            ):
                keep_remarks(tx, RemarkRow(row[0], row[1], FileIdentity(*row[2:5]), *row[5:]))
        for key, value in old.execute("SELECT key, value FROM meta WHERE key <> 'seq'"):
            tx.set(f"folder:{key}", value)
        for image_id, label, replaced_at, info in versions:
            # A rebuilt ledger knows it.
            made = label_files.of_file(tx, image_id, label.file) or label_files.add(
                tx,
                image_id,
                label,
                submission=_known(tx, label.info.get("submission")),
                at=label.stamp.mtime_ns / 1e9,
                replaced_at=replaced_at,
            )
            if replaced_at is None:
                label_files.make_current(tx, image_id, label.tag, made, info)
        tx.run(_LEASES)


def _known(tx: Transaction, submission: object) -> int | None:
    known = isinstance(submission, int) and tx.exists(
        "SELECT 1 FROM submission WHERE id = ?", submission
    )
    return int(submission) if known else None  # type: ignore[call-overload]


def _versions(
    root: Path, files: LabelFiles, old: sqlite3.Connection
) -> Iterator[tuple[str, NewLabel, float | None, dict[str, Any]]]:
    """Yield every label file with its image, when it was replaced, and what is known of it now.

    The oldest of an image and tag first, the current one last.
    """
    current = _current(files, old)
    said = time.monotonic()
    history = files.folder / HISTORY
    folders = [
        (tag, folder.name)
        for tag in scan_tags(history)
        for folder in sorted((history / tag).iterdir())
        if folder.is_dir()
    ]
    for number, (tag, image_id) in enumerate(dict.fromkeys([*folders, *current])):
        if time.monotonic() > said + _SAY_S:
            logger.info("labels of %d of %d images are taken in", number, len(current))
            said = time.monotonic()
        now = current.get((tag, image_id))
        for path in sorted((history / tag / image_id).glob("*")):
            parts = split_suffix(path.name, LABEL_SUFFIXES)
            if parts is None:
                continue
            moment, _, sha256 = parts[0].partition("-")
            replaced_at = datetime.strptime(moment, TIME_FORMAT).replace(tzinfo=UTC).timestamp()
            info = _object(path.with_name(f"{parts[0]}.json"))
            if now is not None and now[2] == sha256:
                continue  # its own entry follows
            yield image_id, _label(root, tag, path, parts[1], sha256, info), replaced_at, info
        if now is not None:
            ext, info, sha256 = now
            path = _kept(files, image_id, tag, ext, sha256)
            own = _object(path.with_name(f"{path.name.removesuffix(ext)}.json")) or info
            label = _label(root, tag, path, ext, sha256, own)
            yield image_id, label, None, info


def _object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; an empty one where it cannot be read."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _label(
    root: Path, tag: str, path: Path, ext: str, sha256: str, info: dict[str, Any]
) -> NewLabel:
    found = FileIdentity.of(path)
    assert found is not None
    return NewLabel(tag, str(path.relative_to(root)), ext, sha256, found.stamp, info)


def _current(
    files: LabelFiles, old: sqlite3.Connection
) -> dict[tuple[str, str], tuple[str, dict[str, Any], str]]:
    """Return suffix, info and sha256 of labels that are in place as the old file says."""
    found = {}
    for table in ("label", "intent"):  # an intent holds where its file is in place
        for image_id, tag, ext, info, *identity in old.execute(
            f"SELECT id, tag, ext, info, size, mtime_ns, inode FROM {table}"
        ):
            path = files.path(image_id, tag, ext or "")
            if ext is None or not path.is_file():
                continue
            known = json.loads(info)
            sha256 = str(known.get("checksum", "")).removeprefix("SHA256:")
            # A copied folder has other inodes.
            if FileIdentity.of(path) != FileIdentity(*identity) and sha256_of(path) != sha256:
                continue  # put there by other means
            found[tag, image_id] = (ext, known, sha256 or sha256_of(path))
    return found


def _kept(files: LabelFiles, image_id: str, tag: str, ext: str, sha256: str) -> Path:
    """Return the kept file of a current label, made where there is none."""
    folder = files.inside(files.folder / HISTORY / tag / image_id)
    for path in folder.glob(f"*-{sha256}{ext}"):
        return path
    served = files.path(image_id, tag, ext)
    moment = datetime.fromtimestamp(served.stat().st_mtime, UTC).strftime(TIME_FORMAT)
    path = folder / f"{moment}-{sha256}{ext}"
    try:
        os.link(served.resolve(), path)
    except OSError:  # a file system without hard links, or a link to another one
        shutil.copy2(served, path)
    return path


def _take_archive(index: FolderIndex, root: Path, old: sqlite3.Connection) -> None:
    tables = {row[0] for row in old.execute("SELECT name FROM sqlite_schema")}
    with index.ledger.write(durable=True) as tx:
        if _is_done(tx, ARCHIVE_FILE):
            return
        for table in ("series", "sent", "patient"):
            for row in old.execute(f"SELECT * FROM {table}") if table in tables else ():
                marks = ",".join("?" * len(row))
                tx.run(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", *row)
        for key, value in old.execute("SELECT key, value FROM meta WHERE key <> 'seq'"):
            tx.set(f"archive:{key}", value)
        tx.next_in_sequence("series")
