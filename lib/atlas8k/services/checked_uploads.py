"""Keep a label that was uploaded to be checked, until it is submitted or two hours have passed."""

from __future__ import annotations

import hashlib
import re
import shutil
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from atlas8k.services.errors import NotFoundError
from atlas8k.store import Lease, OrganChange

KEPT_S = 2 * 3600.0
_TOKEN = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Checked:
    """What would be recorded of an uploaded label.

    Attributes
    ----------
    lease
        Of the case.
    token
        What the file is fetched by.
    odd
        What is odd about the volume of an organ, changed or not.
    partial
        What was said of the rest, where it covers a part of the CT.
    """

    lease: int
    token: str
    organs: dict[str, OrganChange]
    odd: dict[str, str]
    partial: bool | None


class CheckedUploads:
    """The files of uploads that were checked, each for who holds its case.

    Parameters
    ----------
    folder
        Where they lie; made when the first comes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, sent: Path, image: str, held: Lease) -> str:
        """Keep a copy of an upload, and forget old ones; return the token it is fetched by."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for old in self._folder.iterdir():
            if old.stat().st_mtime < time.time() - KEPT_S:
                old.unlink(missing_ok=True)
        token = uuid.uuid4().hex
        suffix = "".join(sent.suffixes[-2:])
        unfinished = self._folder / f".{token}"
        shutil.copyfile(sent, unfinished)
        unfinished.rename(self._folder / f"{token}-{_of(image, held)}-{suffix}")
        return token

    def find(self, token: str, image: str, held: Lease) -> Path:
        """Return a file that was kept.

        Raises
        ------
        NotFoundError
            There is no such file any more, or it is of another case or person.
        """
        pattern = f"{token}-{_of(image, held)}-*"
        found = list(self._folder.glob(pattern)) if _TOKEN.fullmatch(token) else []
        if not found:
            raise NotFoundError("label that was checked", f"of {image}; upload and check it again")
        return found[0]


def _of(image: str, held: Lease) -> str:
    return hashlib.sha256(f"{image}\n{held.holder}".encode()).hexdigest()[:32]
