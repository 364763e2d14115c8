"""Whose turn it is on the device: an annotator's inference, then scoring, then training.

Two networks' worth of activations do not fit beside each other on every GPU, and scoring
and training are processes of their own. Locks of the file system hold between processes,
and the kernel lets go of them when a process ends, however it ends.

Each kind of work that wants the device holds a shared lock on a file of its own meanwhile.
Who is less urgent looks at those files and stays back, so that an inference waits at most
for the volume that is being scored, the step that is being trained, or the volume on which
networks are being measured. A training leaves the device while it reads and prepares volumes.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sys
import time
from enum import IntEnum
from pathlib import Path
from typing import IO, Self

logger = logging.getLogger(__name__)

LOOK_AGAIN_S = 0.02


class Turn(IntEnum):
    """Kinds of work, the most urgent first."""

    INFERENCE = 0
    SCORING = 1
    TRAINING = 2


class DeviceLock:
    """The right to compute, shared by all processes that open the same folder.

    Parameters
    ----------
    folder
        For the lock files, on a local disk; made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def turn(self, turn: Turn) -> Held:
        """Return what waits for the device and holds it for a ``with`` block.

        Not to be taken again inside the block: it would wait for itself.
        """
        return Held(self._folder, turn)


class Held:
    """A device that is held; see :meth:`give_way`."""

    def __init__(self, folder: Path, turn: Turn) -> None:
        self._folder, self._turn = folder, turn
        self._files = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def take(self) -> None:
        """Wait until nobody holds the device and nobody more urgent wants it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        fcntl.flock(self._files.enter_context(self._wanted(self._turn)), fcntl.LOCK_SH)
        device = self._files.enter_context(_opened(self._folder / "device.lock"))
        if self._turn == Turn.INFERENCE:
            fcntl.flock(device, fcntl.LOCK_EX)
        else:
            while self.wanted_by_others() or not _lock_at_once(device):
                time.sleep(LOOK_AGAIN_S)

    def leave(self) -> None:
        """Let go of the device, with its memory that is not in use."""
        try:
            free_memory()
        finally:
            self._files.close()

    def give_way(self) -> None:
        """Let those more urgent compute first, where there are any."""
        if self.wanted_by_others():
            self.leave()
            self.take()

    def wanted_by_others(self) -> bool:
        """Return whether something more urgent waits for the device."""
        for turn in Turn:
            if turn < self._turn:
                with self._wanted(turn) as stream:
                    if not _lock_at_once(stream):
                        return True
        return False

    def _wanted(self, turn: Turn) -> IO[bytes]:
        return _opened(self._folder / f"{turn.name.lower()}.lock")


def _opened(path: Path) -> IO[bytes]:
    # A child process must not keep a lock alive.
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "rb+")


def _lock_at_once(stream: IO[bytes]) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def free_memory() -> None:
    """Give back what PyTorch keeps of a GPU's memory for later."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        try:
            torch.cuda.empty_cache()
        except RuntimeError as err:  # the GPU is gone: who predicts is told so
            logger.warning("a GPU's memory is not given back: %s", err)
