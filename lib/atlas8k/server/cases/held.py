"""Uploaded labels between being checked and being submitted."""

from __future__ import annotations

import hashlib
import re
import shutil
import time
import uuid
from pathlib import Path

from atlas8k.ledger import Holder
from atlas8k.server.errors import NotFoundError

KEPT_S = 2 * 3600.0
_TOKEN = re.compile(r"[0-9a-f]{32}")


class HeldUploads:
    """Files that their senders have been shown what would be recorded of.

    Parameters
    ----------
    folder
        Where they are kept, for two hours; made at the first upload.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, sent: Path, image: str, holder: Holder) -> str:
        """Keep a copy of a file, for this holder and image; what it is fetched by."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._forget(time.time() - KEPT_S)
        token = uuid.uuid4().hex
        suffix = "".join(sent.suffixes[-2:])
        target = self._folder / f"{token}-{_whose(image, holder)}-{suffix}"
        unfinished = target.with_name(f".{token}")
        shutil.copyfile(sent, unfinished)
        unfinished.rename(target)
        return token

    def path(self, token: str, image: str, holder: Holder) -> Path:
        """Return a kept file.

        Raises
        ------
        NotFoundError
            There is none for this holder and image, or not any more.
        """
        pattern = f"{token}-{_whose(image, holder)}-*"
        found = list(self._folder.glob(pattern)) if _TOKEN.fullmatch(token) else []
        if not found:
            raise NotFoundError("label that was checked", f"of {image}; upload and check it again")
        return found[0]

    def _forget(self, before: float) -> None:
        for path in self._folder.iterdir():
            if path.stat().st_mtime < before:
                path.unlink(missing_ok=True)


def _whose(image: str, holder: Holder) -> str:
    return hashlib.sha256(f"{image}\n{holder.key}".encode()).hexdigest()[:32]
