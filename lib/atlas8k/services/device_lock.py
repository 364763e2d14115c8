"""Whose turn it is on the device: an annotator's inference, then scoring, then training.

Two networks' worth of activations do not fit beside each other on every GPU, and scoring
and training are processes of their own. Locks of the file system hold between processes,
and the kernel lets go of them when a process ends, however it ends.

Each kind of work that wants the device holds a shared lock on a file of its own meanwhile.
Who is less urgent looks at those files and stays back, so that an inference waits at most
for the volume that is being scored, the step that is being trained, or the volume on which
networks are being measured. A training leaves the device while it reads and prepares volumes.

Each GPU of a machine has locks of its own: workers of a cluster on the server's machine take those
of the GPU that they were given, so that one which shares it with the server, or with another
worker, does not compute beside it. One that has a GPU to itself waits for nobody. Workers without
a GPU take none: the processors are the system's to share out, and so is the memory.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
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
    device
        As PyTorch calls it.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self._folder, self._device = folder, device

    def turn(self, turn: Turn) -> Held:
        """Return what waits for the device and holds it for a ``with`` block.

        Not to be taken again inside the block: it would wait for itself.
        """
        return Held(self._folder / gpu_of(self._device), turn)


def gpu_of(device: str) -> str:
    """Return the name of a GPU among all of a machine, whichever of them a process is shown.

    Empty for a processor, and where PyTorch does not tell: these have the same locks.
    """
    if not device.startswith("cuda"):
        return ""
    import torch

    try:
        return f"gpu-{torch.cuda.get_device_properties(device).uuid}"
    except (AssertionError, AttributeError, RuntimeError):  # no CUDA; an older release; it is gone
        return ""


def machine() -> str:
    """Return what tells this machine, as long as it is up, from others: locks end with it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # not Linux
        return socket.gethostname()


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

    def usable(self) -> bool:
        """Return whether this process may use the files, which may be another user's."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _opened(self._folder / "device.lock").close()
            for turn in Turn:
                self._wanted(turn).close()
        except OSError:
            return False
        return True

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
