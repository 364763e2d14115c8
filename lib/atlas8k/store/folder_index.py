"""What is known about the images and labels of a studies folder, as the folder asks for it.

The files on disk say which images there are; this says what came with them. Every change
takes the next number of one sequence, so that another process learns what has changed by
asking for what came after the last number it saw: as many rows as there were changes,
however many volumes there are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from atlas8k.store import audit_trail, label_files
from atlas8k.store.label_files import CurrentLabel, FileStamp, LabelVersion, NewLabel
from atlas8k.store.ledger import Ledger
from atlas8k.store.transaction import Transaction

CHANGES = "folder"
"""The sequence of changes of the folder, see :meth:`Transaction.next_in_sequence`."""


class FileIdentity(NamedTuple):
    """What tells one image file from another of the same name."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, path: str | Path) -> FileIdentity | None:
        """Return that of the file at `path`, links followed; ``None`` where there is none."""
        try:
            found = os.stat(path)  # noqa: PTH116
        except OSError:
            return None
        return cls(found.st_size, found.st_mtime_ns, found.st_ino)

    @property
    def stamp(self) -> FileStamp:
        """The part that a copy with its times shares."""
        return FileStamp(self.size, self.mtime_ns)


class ImageRow(NamedTuple):
    """What is known about an image; `info` is a JSON object's text."""

    id: str
    info: str
    removed: str | None


class RemarkRow(NamedTuple):
    """What one inspector found in one image; `remarks` is a JSON list's text."""

    id: str
    source: str
    identity: FileIdentity
    stamp: str
    remarks: str


class Changes(NamedTuple):
    """Rows written after some number of the sequence, and the last number."""

    seq: int
    images: list[ImageRow]
    labels: list[CurrentLabel]
    remarks: list[RemarkRow]


class FolderIndex:
    """Images and labels of a studies folder in its store.

    Every method is one transaction. Several threads and processes may use it.

    Parameters
    ----------
    ledger
        The store.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    # --- reading ----------------------------------------------------------------------

    def changes(self, since: int = 0) -> Changes:
        """Return rows written after number `since`, removed labels included."""
        with self.ledger.read() as tx:
            return Changes(
                tx.last_in_sequence(CHANGES),
                [
                    ImageRow(*row)
                    for row in tx.run("SELECT id, info, removed FROM image WHERE seq > ?", since)
                ],
                label_files.changed(tx, since),
                [
                    RemarkRow(row[0], row[1], FileIdentity(*row[2:5]), *row[5:])
                    for row in tx.run(
                        "SELECT id, source, size, mtime_ns, inode, stamp, remarks FROM remark"
                        " WHERE seq > ?",
                        since,
                    )
                ],
            )

    def image(self, image_id: str) -> ImageRow | None:
        """Return what is known about an image."""
        with self.ledger.read() as tx:
            row = tx.find("SELECT id, info, removed FROM image WHERE id = ?", image_id)
        return ImageRow(*row) if row else None

    def label(self, image_id: str, tag: str) -> CurrentLabel | None:
        """Return what is current for an image and tag."""
        with self.ledger.read() as tx:
            return label_files.current(tx, image_id, tag)

    def label_version(self, image_id: str, tag: str) -> LabelVersion | None:
        """Return the label file that is current; None where none of the store is."""
        with self.ledger.read() as tx:
            return label_files.current_version(tx, image_id, tag)

    def label_versions(self, image_id: str, tag: str | None = None) -> list[LabelVersion]:
        """Return every label file of an image, the oldest first."""
        with self.ledger.read() as tx:
            return label_files.versions(tx, image_id, tag)

    def labels_of(self, image_id: str) -> tuple[list[LabelVersion], list[CurrentLabel]]:
        """Return every label file of an image, and what is current of each tag."""
        with self.ledger.read() as tx:
            return label_files.of_image(tx, image_id)

    def labeled_images(self) -> list[str]:
        """Return images that have label files of the store, by name."""
        with self.ledger.read() as tx:
            return label_files.images(tx)

    def label_places(self) -> list[tuple[str, str, str, FileStamp]]:
        """Return where every label file lies; see :func:`~atlas8k.store.label_files.places`."""
        with self.ledger.read() as tx:
            return label_files.places(tx)

    def find_version(self, number: int) -> LabelVersion | None:
        """Return a label file by its number; None where there is none."""
        with self.ledger.read() as tx:
            return label_files.by_number(tx, number)

    def find_label(self, image_id: str, sha256: str) -> LabelVersion | None:
        """Return a label file by its checksum; None where there is none."""
        with self.ledger.read() as tx:
            return label_files.find(tx, image_id, sha256)

    def is_own(self, image_id: str, ext: str, stamp: FileStamp) -> bool:
        """Return whether a file in place is a copy of one of the image's own label files."""
        with self.ledger.read() as tx:
            return label_files.is_own(tx, image_id, ext, stamp)

    def is_kept(self, image_id: str, ext: str, stamp: FileStamp) -> bool:
        """Return whether a file in place has a copy among the image's own label files."""
        with self.ledger.read() as tx:
            return label_files.is_kept(tx, image_id, ext, stamp)

    def checksum(self, path: str, identity: FileIdentity) -> str | None:
        """Return SHA256, hex, of the file of that identity; ``None`` where it is not known."""
        with self.ledger.read() as tx:
            found = tx.value(
                "SELECT sha256 FROM checksum"
                " WHERE path = ? AND size = ? AND mtime_ns = ? AND inode = ?",
                *(path, *identity),
            )
        return None if found is None else str(found)

    def meta(self, key: str) -> str | None:
        """Return a setting of the whole folder."""
        with self.ledger.read() as tx:
            return tx.setting(f"folder:{key}")

    # --- writing ----------------------------------------------------------------------

    def set_meta(self, key: str, value: str) -> None:
        """Keep a setting of the whole folder."""
        with self.ledger.write() as tx:
            tx.set(f"folder:{key}", value)

    def keep_checksum(self, path: str, identity: FileIdentity, sha256: str) -> None:
        """Remember a checksum, at the cost of forgetting that of an older file."""
        with self.ledger.write() as tx:
            tx.run("INSERT OR REPLACE INTO checksum VALUES (?,?,?,?,?)", path, *identity, sha256)

    def keep_remarks(self, row: RemarkRow) -> None:
        """Keep what an inspector found, in place of what it found before."""
        with self.ledger.write() as tx:
            keep_remarks(tx, row)

    def update_image(
        self,
        image_id: str,
        change: Callable[[dict[str, Any]], Mapping[str, Any]],
        *,
        removed: str | None = None,
        fresh: bool = False,
        added: str | None = None,
    ) -> None:
        """Replace what is known about an image by what `change` makes of it.

        Parameters
        ----------
        removed
            SHA256 of the image that is being removed; else the mark is taken off.
        fresh
            Forget what was known: it was about another file.
        added
            SHA256 of the image that has been added.
        """
        with self.ledger.write(durable=fresh or bool(added or removed)) as tx:
            known = tx.value("SELECT info FROM image WHERE id = ?", image_id)
            before = json.loads(known) if known and not fresh else {}
            keep_image(tx, ImageRow(image_id, _text(change(before)), removed))
            if added or removed:
                detail = {"added": added} if added else {"removed": removed}
                audit_trail.note(tx, "image", volume=image_id, **detail)

    def save_label(self, image_id: str, label: NewLabel) -> None:
        """Enter a label file and make it current, on disk when this returns."""
        with self.ledger.write(durable=True) as tx:
            made = label_files.add(tx, image_id, label)
            label_files.make_current(tx, image_id, label.tag, made, label.info)
            audit_trail.note(
                tx, "label", volume=image_id, purpose="other", file_sha256=label.sha256
            )

    def remove_label(self, image_id: str, tag: str) -> None:
        """Have no label current for `tag`."""
        with self.ledger.write(durable=True) as tx:
            label_files.remove(tx, image_id, tag)
            audit_trail.note(tx, "label", volume=image_id, purpose="removed")

    def add_foreign_version(self, image_id: str, label: NewLabel) -> None:
        """Enter the copy of a file that was put in place by other means and is to be replaced."""
        with self.ledger.write(durable=True) as tx:
            label_files.add(tx, image_id, label, replaced_at=tx.now)

    def set_stamp(self, version: LabelVersion, stamp: FileStamp) -> None:
        """Take over size and time of a label file, see :func:`label_files.set_stamp`."""
        with self.ledger.write() as tx:
            label_files.set_stamp(tx, version.id, stamp)

    def update_label(
        self,
        label: CurrentLabel,
        change: Callable[[dict[str, Any]], Mapping[str, Any]],
    ) -> None:
        """Replace what is known about a label that is in place by what `change` makes of it."""
        image_id, tag = label.image, label.tag
        with self.ledger.write() as tx:
            newest = label_files.current(tx, image_id, tag)
            if newest is not None and (newest.ext, newest.stamp) == (label.ext, label.stamp):
                info = change(json.loads(newest.info))
                label_files.update_info(tx, image_id, tag, info)
            elif label.version is None:
                info = change(json.loads(label.info))
                label_files.note_foreign_file(tx, image_id, tag, label.ext or "", label.stamp, info)


def keep_image(tx: Transaction, row: ImageRow) -> None:
    """Write what is known about an image."""
    tx.run("INSERT OR REPLACE INTO image VALUES (?,?,?,?)", *row, tx.next_in_sequence(CHANGES))


def keep_remarks(tx: Transaction, row: RemarkRow) -> None:
    """Write what an inspector found, in place of what it found before."""
    tx.run(
        "INSERT OR REPLACE INTO remark VALUES (?,?,?,?,?,?,?,?)",
        *(row.id, row.source, *row.identity, row.stamp, row.remarks, tx.next_in_sequence(CHANGES)),
    )


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
