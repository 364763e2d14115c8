"""Temporary files of a server in a folder of its own, which the next one removes if need be.

A server that is killed leaves what it had begun to write. In a folder that is locked as long as its
server lives, that can be told from what another one is writing.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO

PREFIX = "atlas8k-server-"
_LOCK = ".lock"


class TemporaryFolder:
    """The folder for all temporary files of this process and of those it starts.

    Parameters
    ----------
    root
        Where it is made; the system's temporary folder by default.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._root = Path(tempfile.gettempdir()) if root is None else root
        self.removed = remove_left(self._root)
        # Under another name until it is locked: a server that starts now leaves that alone.
        made = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=self._root))
        self._lock = _locked(made)
        self.path = made.rename(made.with_name(made.name[1:]))
        self._before = tempfile.tempdir, os.environ.get("TMPDIR")
        tempfile.tempdir = str(self.path)
        os.environ["TMPDIR"] = str(self.path)

    def close(self) -> None:
        """Remove it; later temporary files go where they went before."""
        tempfile.tempdir, variable = self._before
        if variable is None:
            os.environ.pop("TMPDIR", None)
        else:
            os.environ["TMPDIR"] = variable
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()


def remove_left(root: Path) -> int:
    """Remove what servers that are gone have left in a temporary folder; return how many."""
    count = 0
    for path in sorted(root.glob(f"{PREFIX}*")):
        try:
            # Others may write here, too: nothing but a folder that we have made.
            if path.is_symlink() or not path.is_dir() or path.stat().st_uid != os.geteuid():
                continue
            lock = _locked(path)
            if lock is not None:
                with lock:
                    shutil.rmtree(path, ignore_errors=True)
                count += 1
        except OSError:  # it is being removed by another server
            continue
    return count


def _locked(folder: Path) -> BinaryIO | None:
    """Return its lock, held until it is closed; None where somebody has it."""
    stream = open(folder / _LOCK, "ab")  # noqa: SIM115 - held as long as the process lives
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        return None
    return stream
