"""Label files: every one there was, by its hash, and which is current for an image and tag.

A file lies in the studies folder before its row is written. What is current is said here
alone; ``labels/<tag>/<image><ext>`` is made of it. A copy there shares its size and time of
change with the kept file, by which it is told from a file that somebody else put there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from atlas8k.store.records import LabelFile
from atlas8k.store.transaction import Transaction

FORMER_MODEL_VERSION = "model_signature"
"""Key of a label's model version in releases before 0.2."""

BESIDE = "beside"
"""Tag of the draft label that would follow from a reading of a gold case; it never is current."""


class FileStamp(NamedTuple):
    """Size, bytes, and time of change, ns since 1970: what a label file and its copies share."""

    size: int
    mtime_ns: int


class NewLabel(NamedTuple):
    """A label file that is whole and on disk, and not in the store yet.

    `file` is relative to the studies folder, `sha256` hex, `info` JSON-able.
    """

    tag: str
    file: str
    ext: str
    sha256: str
    stamp: FileStamp
    info: dict[str, Any]


class LabelVersion(NamedTuple):
    """A label file of the store; fields as in :class:`NewLabel`.

    ``replaced_at`` is UTC seconds since 1970; None where it is current, or never was.
    """

    id: int
    image: str
    tag: str
    file: str
    ext: str
    sha256: str
    stamp: FileStamp
    info: dict[str, Any]
    written_at: float
    replaced_at: float | None


class CurrentLabel(NamedTuple):
    """What is current for an image and tag.

    ``version`` is None where the label was removed (``ext`` is None then too), or is a file
    that was put there by other means (``ext`` and ``stamp`` are its own). ``info`` is the text
    of a JSON object.
    """

    image: str
    tag: str
    version: int | None
    ext: str | None
    stamp: FileStamp
    info: str


def add(
    tx: Transaction,
    image: str,
    label: NewLabel,
    *,
    submission: int | None = None,
    at: float | None = None,
    replaced_at: float | None = None,
) -> int:
    """Enter a label file, which is not current yet; return its number.

    Parameters
    ----------
    submission
        The one it was submitted as.
    at
        When it was made, UTC seconds since 1970, where not now.
    replaced_at
        When it ceased to be current, where that is known to be past.
    """
    info = _renamed(label.info)
    model = info.get("model_version")
    return tx.insert(
        "label_version",
        image=image,
        tag=label.tag,
        file=label.file,
        ext=label.ext,
        sha256=label.sha256,
        size=label.stamp.size,
        mtime_ns=label.stamp.mtime_ns,
        info=json.dumps(info),
        model_version=tx.value("SELECT id FROM model_version WHERE name = ?", model),
        submission=submission,
        written_at=tx.now if at is None else at,
        replaced_at=replaced_at,
    )


def _renamed(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return a label's info with the names of this release; files carry those of earlier ones."""
    renamed = dict(info)
    if FORMER_MODEL_VERSION in renamed:
        renamed.setdefault("model_version", renamed.pop(FORMER_MODEL_VERSION))
    return renamed


def make_current(
    tx: Transaction, image: str, tag: str, version: int, info: Mapping[str, Any]
) -> None:
    """Make a label file the current one of `tag`, with what is known of it there.

    It may have been made for another tag.
    """
    _end(tx, image, tag)
    row = tx.one("SELECT sha256, written_at FROM label_version WHERE id = ?", version)
    said = {"ts": int(row[1]), **_renamed(info), "checksum": f"SHA256:{row[0]}"}
    _write(tx, image, tag, version, None, FileStamp(0, 0), json.dumps(said))
    tx.run("UPDATE label_version SET replaced_at = NULL WHERE id = ? AND tag = ?", version, tag)


def remove(tx: Transaction, image: str, tag: str) -> None:
    """Have no label current for `tag`."""
    _end(tx, image, tag)
    _write(tx, image, tag, None, None, FileStamp(0, 0), "{}")


def note_foreign_file(
    tx: Transaction, image: str, tag: str, ext: str, stamp: FileStamp, info: Mapping[str, Any]
) -> None:
    """Note what is known of a file that was put in place by other means."""
    _end(tx, image, tag)
    _write(tx, image, tag, None, ext, stamp, json.dumps(info))


def update_info(tx: Transaction, image: str, tag: str, info: Mapping[str, Any]) -> None:
    """Replace what is known of the current label of `tag`."""
    tx.run(
        "UPDATE label SET info = ?, seq = ? WHERE image = ? AND tag = ?",
        *(json.dumps(info), tx.next_in_sequence("folder"), image, tag),
    )


def set_stamp(tx: Transaction, version: int, stamp: FileStamp) -> None:
    """Take over size and time of a label file where its file system cannot keep the former."""
    tx.run("UPDATE label_version SET size = ?, mtime_ns = ? WHERE id = ?", *stamp, version)
    tx.run("UPDATE label SET seq = ? WHERE version = ?", tx.next_in_sequence("folder"), version)


def _current(tx: Transaction, image: str, tag: str) -> int | None:
    found: int | None = tx.value(
        "SELECT version FROM label WHERE image = ? AND tag = ?", image, tag
    )
    return found


def _end(tx: Transaction, image: str, tag: str) -> None:
    # The pseudo label may be the draft, too: ceasing to be the draft does not replace it.
    tx.run(
        "UPDATE label_version SET replaced_at = ? WHERE id = ? AND tag = ?",
        *(tx.now, _current(tx, image, tag), tag),
    )


def _write(
    tx: Transaction,
    image: str,
    tag: str,
    version: int | None,
    ext: str | None,
    stamp: FileStamp,
    info: str,
) -> None:
    tx.run(
        "INSERT OR REPLACE INTO label VALUES (?,?,?,?,?,?,?,?)",
        *(image, tag, version, ext, *stamp, info, tx.next_in_sequence("folder")),
    )


# Reading

_CURRENT = (
    "SELECT l.image, l.tag, l.version, coalesce(v.ext, l.ext), coalesce(v.size, l.size),"
    " coalesce(v.mtime_ns, l.mtime_ns), l.info FROM label l"
    " LEFT JOIN label_version v ON v.id = l.version"
)
_VERSION = (
    "SELECT id, image, tag, file, ext, sha256, size, mtime_ns, info, written_at, replaced_at"
    " FROM label_version"
)


def _label(row: tuple[Any, ...]) -> CurrentLabel:
    image, tag, version, ext, size, mtime_ns, info = row
    return CurrentLabel(image, tag, version, ext, FileStamp(size, mtime_ns), info)


def _read(row: tuple[Any, ...]) -> LabelVersion:
    number, image, tag, file, ext, sha256, size, mtime_ns, info, written, replaced = row
    stamp = FileStamp(size, mtime_ns)
    return LabelVersion(
        number, image, tag, file, ext, sha256, stamp, json.loads(info), written, replaced
    )


def current(tx: Transaction, image: str, tag: str) -> CurrentLabel | None:
    """Return what is current for an image and tag; None where there never was anything."""
    row = tx.find(f"{_CURRENT} WHERE l.image = ? AND l.tag = ?", image, tag)
    return None if row is None else _label(row)


def changed(tx: Transaction, since: int) -> list[CurrentLabel]:
    """Return what was made current after number `since` of the folder's changes."""
    return [_label(row) for row in tx.run(f"{_CURRENT} WHERE l.seq > ?", since)]


def by_number(tx: Transaction, number: int) -> LabelVersion | None:
    """Return a label file by its number; None where there is none."""
    row = tx.find(f"{_VERSION} WHERE id = ?", number)
    return None if row is None else _read(row)


def current_version(tx: Transaction, image: str, tag: str) -> LabelVersion | None:
    """Return the label file that is current; None where none of the store is."""
    found = _current(tx, image, tag)
    return None if found is None else by_number(tx, found)


def versions(tx: Transaction, image: str, tag: str | None = None) -> list[LabelVersion]:
    """Return every label file of an image, of one tag or of all, the oldest first."""
    rows = tx.run(
        f"{_VERSION} WHERE image = ?1 AND (?2 IS NULL OR tag = ?2) ORDER BY id", image, tag
    )
    return [_read(row) for row in rows]


def find(tx: Transaction, image: str, sha256: str) -> LabelVersion | None:
    """Return a label file by its checksum; None where there is none."""
    row = tx.find(
        f"{_VERSION} WHERE image = ? AND sha256 = ? ORDER BY id DESC LIMIT 1",
        *(image, sha256.removeprefix("SHA256:")),
    )
    return None if row is None else _read(row)


def draft_of(tx: Transaction, image: str, submission: int) -> LabelVersion | None:
    """Return the draft label that was made of a submission; None where none was fused."""
    row = tx.find(
        f"{_VERSION} WHERE image = ? AND tag IN ('original', ?)"
        " AND json_extract(info, '$.submission') = ? ORDER BY id DESC LIMIT 1",
        *(image, BESIDE, submission),
    )
    return None if row is None else _read(row)


def of_file(tx: Transaction, image: str, file: str) -> int | None:
    """Return the number of the label file that lies there; None where it is not entered."""
    found: int | None = tx.value(
        "SELECT id FROM label_version WHERE image = ? AND file = ?", image, file
    )
    return found


_SAME_STAMP = (
    "SELECT 1 FROM label_version WHERE image = ?1 AND ext = ?2 AND size = ?3 AND mtime_ns = ?4"
)


def is_kept(tx: Transaction, image: str, ext: str, stamp: FileStamp) -> bool:
    """Return whether a file in place has a copy among the image's own."""
    return tx.exists(_SAME_STAMP, image, ext, *stamp)


def is_own(tx: Transaction, image: str, ext: str, stamp: FileStamp) -> bool:
    """Return whether a file in place is a copy of one of the image's own, current or not.

    A label that was in the folder is kept a moment before it is imported. Where a process was
    killed in between it is not ours yet, and is imported by the next start.
    """
    return tx.exists(
        f"{_SAME_STAMP} AND (tag <> 'imported' OR EXISTS"
        " (SELECT 1 FROM submission p JOIN volume v ON v.id = p.volume WHERE v.name = ?1))",
        *(image, ext, *stamp),
    )


def of_image(tx: Transaction, image: str) -> tuple[list[LabelVersion], list[CurrentLabel]]:
    """Return every label file of an image, the oldest first, and what is current of each tag."""
    current = tx.run(f"{_CURRENT} WHERE l.image = ?", image)
    return versions(tx, image), [_label(row) for row in current]


def images(tx: Transaction) -> list[str]:
    """Return images that have label files of the store, by name."""
    return [row[0] for row in tx.run("SELECT DISTINCT image FROM label_version ORDER BY image")]


def places(tx: Transaction) -> list[tuple[str, str, str, FileStamp]]:
    """Return image, tag, place and stamp of every kept file, and of every current label's.

    Those of current labels have no place, but their suffix: they lie in the tag's folder.
    """
    kept = tx.run("SELECT image, '', file, size, mtime_ns FROM label_version")
    current = tx.run(
        "SELECT l.image, l.tag, v.ext, v.size, v.mtime_ns FROM label l"
        " JOIN label_version v ON v.id = l.version"
    )
    return [(row[0], row[1], row[2], FileStamp(row[3], row[4])) for row in (*kept, *current)]


def labels(tx: Transaction, volume: str) -> list[LabelFile]:
    """Return every label file that a volume has had, the oldest first."""
    rows = tx.run(
        "SELECT l.tag, l.file, l.sha256, s.name, l.submission, l.written_at, l.replaced_at"
        " FROM label_version l LEFT JOIN model_version s ON s.id = l.model_version"
        " WHERE l.image = ? ORDER BY l.id",
        volume,
    )
    return [LabelFile(*row) for row in rows]
