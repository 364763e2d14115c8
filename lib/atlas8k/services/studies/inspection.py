"""Images looked into once, in the background: what is found is kept as remarks.

Listing a folder opens no file; this does, one image at a time, behind everybody else. What an
inspector found is kept in the store with the file's size, time and inode, so that a
start looks only into what is new. One process does it for all that have the folder open.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from atlas8k.core.errors import VolumeError
from atlas8k.core.files import only_one
from atlas8k.core.remarks import Remark
from atlas8k.services.studies.catalogue import Catalogue
from atlas8k.services.studies.scan import ImageFile
from atlas8k.store import FileIdentity, FolderIndex, RemarkRow

logger = logging.getLogger(__name__)

REFUSED = "cannot_be_used"
"""Kind of the remark that a :class:`VolumeError` of an inspector becomes."""


def _once(path: Path) -> str:
    return "1"


class Inspector(NamedTuple):
    """Looks into an image and says what it found.

    Attributes
    ----------
    name
        Its remarks replace its own earlier ones, nobody else's.
    look
        Gets the image's path. A :class:`~atlas8k.core.errors.VolumeError` becomes a remark.
    stamp
        Gets the image's path: the image is looked into again when this changes, as with a new
        version of `look` or a file beside the image. Asked often, so it must be cheap.
    """

    name: str
    look: Callable[[Path], Sequence[Remark]]
    stamp: Callable[[Path], str] = _once


class Inspections:
    """The remarks of a studies folder's images.

    Parameters
    ----------
    root
        The studies folder, links resolved.
    inspectors
        Asked in this order.
    """

    def __init__(
        self,
        root: Path,
        index: FolderIndex,
        catalogue: Catalogue,
        inspectors: Sequence[Inspector] = (),
    ) -> None:
        self._root, self._index, self._catalogue = root, index, catalogue
        self._inspectors = tuple(inspectors)
        self._seen: dict[tuple[str, str], tuple[FileIdentity, str]] = {}
        self._looked_at = -1
        self.changes = 0
        """Grows with every image that an inspector has looked into, new or changed."""

    @property
    def finds_changes(self) -> bool:
        """Whether files that changed in place are found: some inspector looks for them."""
        return bool(self._inspectors)

    def identity(self, image_id: str) -> FileIdentity | None:
        """Return an image's file as it was last looked into; None: it was not."""
        for inspector in self._inspectors:
            if (seen := self._seen.get((image_id, inspector.name))) is not None:
                return seen[0]
        return None

    def learn(self, row: RemarkRow) -> None:
        """Take in what any process found."""
        self._seen[row.id, row.source] = (row.identity, row.stamp)
        self.changes += 1
        remarks = tuple(Remark.of(told) for told in json.loads(row.remarks))
        self._catalogue.set_remarks(row.id, row.source, remarks)

    def look(self, *, deep: bool = False) -> None:
        """Look into every image that is new or has changed, unless another process does.

        Parameters
        ----------
        deep
            Also where the list of images is as it was: a file may have changed in place.
        """
        changes = self._catalogue.changes
        if not self._inspectors or (changes == self._looked_at and not deep):
            return
        with contextlib.ExitStack() as stack:
            if not stack.enter_context(
                only_one(self._index.ledger.path.parent / "inspection.lock")
            ):
                return
            for image_id, file in list(self._catalogue.images.items()):
                self.inspect(image_id, file)
                time.sleep(0)  # let threads that answer somebody go first
        self._looked_at = changes

    def inspect(self, image_id: str, file: ImageFile) -> None:
        """Look into one image now, where that was not done since it last changed."""
        for inspector in self._inspectors:
            self.ask(inspector, image_id, file)

    def ask(self, inspector: Inspector, image_id: str, file: ImageFile) -> None:
        """Have one inspector look into one image, where it has not since that last changed."""
        path = self._root / file.path
        identity, stamp = FileIdentity.of(path), inspector.stamp(path)
        if identity is None or self._seen.get((image_id, inspector.name)) == (identity, stamp):
            return
        try:
            found = tuple(inspector.look(path))
        except VolumeError as err:
            found = (Remark(REFUSED, err.reason, "blocked"),)
        except OSError as err:
            logger.debug("%s: cannot be looked into (%s)", image_id, err)
            return
        if FileIdentity.of(path) != identity:
            return  # being written: the next look sees it whole
        for remark in found:
            level = logging.INFO if remark.level == "note" else logging.WARNING
            logger.log(level, "%s: %s", image_id, remark.text)
        text = json.dumps([remark.as_dict() for remark in found])
        row = RemarkRow(image_id, inspector.name, identity, stamp, text)
        self._index.keep_remarks(row)
        self.learn(row)
