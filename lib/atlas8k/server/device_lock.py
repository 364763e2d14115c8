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
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import IO

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

    @contextlib.contextmanager
    def turn(self, turn: Turn) -> Iterator[Held]:
        """Wait for the device and hold it for the block.

        Not to be taken again inside the block: it would wait for itself.
        """
        held = Held(self._folder, turn)
        held.take()
        try:
            yield held
        finally:
            held.leave()


class Held:
    """A device that was taken; see :meth:`give_way`."""

    def __init__(self, folder: Path, turn: Turn) -> None:
        self._folder, self._turn = folder, turn
        self._files: list[IO[bytes]] = []

    def take(self) -> None:
        """Wait until nobody holds the device and nobody more urgent wants it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock(self._wanted(self._turn), fcntl.LOCK_SH)
        device = self._open(self._folder / "device.lock")
        self._files.append(device)
        if self._turn == Turn.INFERENCE:
            fcntl.flock(device, fcntl.LOCK_EX)
            return
        while True:
            if not self.wanted_by_others():
                try:
                    fcntl.flock(device, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    pass
                else:
                    return
            time.sleep(LOOK_AGAIN_S)

    def leave(self) -> None:
        """Let go of the device, with its memory that is not in use."""
        free_memory()
        while self._files:
            self._files.pop().close()

    def give_way(self) -> None:
        """Let those more urgent compute first, where there are any."""
        if self.wanted_by_others():
            self.leave()
            self.take()

    def wanted_by_others(self) -> bool:
        """Whether something more urgent waits for the device."""
        return any(self._is_held(self._wanted(turn)) for turn in Turn if turn < self._turn)

    def _wanted(self, turn: Turn) -> Path:
        return self._folder / f"{turn.name.lower()}.lock"

    def _lock(self, path: Path, how: int) -> None:
        stream = self._open(path)
        self._files.append(stream)
        fcntl.flock(stream, how)

    def _is_held(self, path: Path) -> bool:
        with self._open(path) as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    @staticmethod
    def _open(path: Path) -> IO[bytes]:
        # A child process must not keep a lock alive.
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "rb+")


def free_memory() -> None:
    """Return what PyTorch keeps of a GPU's memory for later."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
