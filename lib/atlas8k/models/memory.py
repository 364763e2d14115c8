"""What a network may take of a device's memory, and what is done where it is not there."""

from __future__ import annotations

import ctypes
import logging
import sys
from dataclasses import dataclass, replace
from functools import cache
from math import prod

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
KEPT_BYTES = 1 << 29
"""Freed memory at the heap's end that is kept for the next layer."""
HEAP_BYTES = 1 << 27
"""Larger pieces than this go back to the system at once, as whole volumes should."""
SMALL_WINDOW = 64**3
"""Two windows of this size at once are quicker on a CPU; of larger ones they are not."""
GPU_BATCH = 4
LANES = 4
"""Batches at once on a CPU at the most."""
SHARE_FOR_SUMS = 0.5
"""Of a GPU's free memory; the rest is for the network's own layers."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Room:
    """Where and how many windows at once a network runs.

    Attributes
    ----------
    device
        Of the network.
    batch
        Windows at once.
    sums_on_host
        Logits are summed in the computer's memory wherever the network runs.
    lanes
        Batches at once, on a CPU.
    """

    device: torch.device
    batch: int
    sums_on_host: bool = False
    lanes: int = 1

    @classmethod
    def of(cls, device: torch.device, window: tuple[int, int, int], batch: int | None) -> Room:
        """The room to begin with; `batch` where it is given."""
        small = prod(window) <= SMALL_WINDOW
        if batch is None:
            batch = GPU_BATCH if device.type != "cpu" else 2 if small else 1
        # A large window's layers take gigabytes: one lane, all threads.
        lanes = min(LANES, torch.get_num_threads()) if device.type == "cpu" and small else 1
        return cls(device, batch, lanes=lanes)

    def __str__(self) -> str:
        sums = ", sums in the computer's memory" if self.sums_on_host else ""
        return f"batch {self.batch} on {self.device}{sums}"

    def smaller(self) -> Room | None:
        """The next smaller room: half the batch, one lane, sums on the host, the CPU, nothing."""
        if self.batch > 1:
            return replace(self, batch=self.batch // 2)
        if self.lanes > 1:
            return replace(self, lanes=1)
        if self.device.type == "cpu":
            return None
        if not self.sums_on_host:
            return replace(self, sums_on_host=True)
        return Room(torch.device("cpu"), 1)

    def for_sums(self, needed: int) -> torch.device:
        """Where sums of so many bytes are kept: on the device while they fit there."""
        if self.device.type == "cpu" or self.sums_on_host:
            return torch.device("cpu")
        if needed <= SHARE_FOR_SUMS * free_bytes(self.device):
            return self.device
        log.info("sums of %.1f GB do not fit on %s", needed / 1e9, self.device)
        return torch.device("cpu")


def free_bytes(device: torch.device) -> int:
    """What a GPU can still give, with what PyTorch holds there and does not use."""
    free, _ = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(free + unused)


def short_of_memory(err: BaseException) -> bool:
    """Whether it says that memory is short; PyTorch and its libraries say so in many ways."""
    if isinstance(err, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(err).lower()
    return isinstance(err, RuntimeError) and any(
        words in text for words in ("out of memory", "can't allocate memory", "alloc_failed")
    )


@cache
def keep_freed_memory() -> bool:
    """Have this process keep some of the memory that it frees; whether it can.

    A layer's output of some megabytes is else asked of the system anew every time, and
    filling it with zeros took up to a quarter of a network's time. Only for the allocator
    of Linux' usual C library: two thresholds are set, and threads that start from now on
    share one arena, since what a thread's own arena has free goes back at once.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    values = {M_TRIM_THRESHOLD: KEPT_BYTES, M_MMAP_THRESHOLD: HEAP_BYTES, M_ARENA_MAX: 1}
    done = all(mallopt(name, value) == 1 for name, value in values.items())
    log.debug("freed memory is %s", "kept" if done else "given back")
    return done
