"""Plan a network's use of the machine: its memory, and its workers.

Two windows in two threads beat one window by two threads: no layer waits for the slower
half, and where the machine has other work too, PyTorch's threads spin while they wait for
each other (measured on two busy cores: three times the processor time).
"""

from __future__ import annotations

import ctypes
import logging
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from math import prod
from typing import TypeVar

import psutil
import torch

from atlas8k.core.errors import ShortMemoryError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
KEPT_BYTES = 1 << 29
"""Freed memory at the heap's end that stays with the process for the next layer."""
HEAP_BYTES = 1 << 27
"""Larger pieces than this go back to the system at once, as whole volumes should."""
SMALL_WINDOW = 64**3
"""Two windows of this size at once are quicker on a CPU; of larger ones they are not."""
GPU_BATCH = 4
WORKERS = 4
"""Batches at once on a CPU at the most."""
SHARE_OF_FREE = 0.8
"""Share of the computer's free memory that probabilities may take."""
SHARE_FOR_SUMS = 0.5
"""Share of a GPU's free memory for sums; the rest is for the network's own layers."""

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class MemoryPlan:
    """The device of a network, and the number of windows it runs at once.

    Attributes
    ----------
    device
        Device of the network.
    batch
        Windows at once.
    sums_on_host
        Logits are summed in the computer's memory wherever the network runs.
    workers
        Batches at once, on a CPU.
    """

    device: torch.device
    batch: int
    sums_on_host: bool = False
    workers: int = 1

    @classmethod
    def of(
        cls, device: torch.device, window: tuple[int, int, int], batch: int | None
    ) -> MemoryPlan:
        """Return the first plan to try; with `batch` where it is given."""
        small = prod(window) <= SMALL_WINDOW
        if batch is None:
            batch = GPU_BATCH if device.type != "cpu" else 2 if small else 1
        # A large window's layers take gigabytes: one worker, all threads.
        workers = min(WORKERS, torch.get_num_threads()) if device.type == "cpu" and small else 1
        return cls(device, batch, workers=workers)

    def __str__(self) -> str:
        sums = ", sums in the computer's memory" if self.sums_on_host else ""
        return f"batch {self.batch} on {self.device}{sums}"

    def smaller(self) -> MemoryPlan | None:
        """Return the next smaller plan: half the batch, one worker, sums on the host, the CPU."""
        if self.batch > 1:
            return replace(self, batch=self.batch // 2)
        if self.workers > 1:
            return replace(self, workers=1)
        if self.device.type == "cpu":
            return None
        if not self.sums_on_host:
            return replace(self, sums_on_host=True)
        return MemoryPlan(torch.device("cpu"), 1)

    def for_sums(self, needed: int) -> torch.device:
        """Return the device for sums of so many bytes: the network's while they fit there."""
        if self.device.type == "cpu" or self.sums_on_host:
            return torch.device("cpu")
        if needed <= SHARE_FOR_SUMS * free_bytes(self.device):
            return self.device
        log.info("sums of %.1f GB do not fit on %s", needed / 1e9, self.device)
        return torch.device("cpu")


def free_bytes(device: torch.device) -> int:
    """Return the free bytes of a GPU, those that PyTorch holds unused included."""
    free, _ = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(free + unused)


def check_memory(needed: int, what: str) -> None:
    """Raise where so many bytes would leave this computer without memory.

    Linux promises more than there is, and ends a process when it is used.

    Raises
    ------
    ShortMemoryError
        It needs more than :data:`SHARE_OF_FREE` of what is free.
    """
    free = psutil.virtual_memory().available
    if needed > SHARE_OF_FREE * free:
        raise ShortMemoryError(
            f"{what}: its probabilities need {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB of memory "
            "are free; crop it to the abdomen, or use a computer with more memory"
        )


def peak_mb(device: str = "cpu") -> dict[str, float]:
    """Return the most memory that this process has taken so far, MB.

    Returns
    -------
    dict
        ``memory``, and of a GPU ``gpu``: what PyTorch has taken of it.
    """
    if sys.platform == "win32":
        found = {"memory": psutil.Process().memory_info().peak_wset / 1e6}
    else:
        import resource  # not there on Windows

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = {"memory": most / (1e6 if sys.platform == "darwin" else 1e3)}
    if device.startswith("cuda"):
        found["gpu"] = torch.cuda.max_memory_reserved(device) / 1e6
    return found


def is_out_of_memory(err: BaseException) -> bool:
    """Return whether an error means that memory is short; PyTorch raises many such."""
    if isinstance(err, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(err).lower()
    return isinstance(err, RuntimeError) and any(
        words in text for words in ("out of memory", "can't allocate memory", "alloc_failed")
    )


def is_device_lost(err: BaseException, device: torch.device) -> bool:
    """Return whether an error means that this process cannot use its GPU any more.

    An error of CUDA may be of one CT or one network (a size that a kernel cannot take); after
    others every call is answered with it, which is tried.
    """
    # Of PyTorch 2.8 and later; before, nothing tells such errors from others.
    kind: type[BaseException] | tuple[()] = getattr(torch, "AcceleratorError", ())
    return isinstance(err, kind) and not is_out_of_memory(err) and not answers(device)


def answers(device: torch.device) -> bool:
    """Return whether a device computes."""
    try:
        torch.zeros(1, device=device).cpu()
    except RuntimeError:
        return False
    return True


@cache
def keep_freed_memory() -> bool:
    """Keep some of the memory that this process frees; return whether that is possible.

    The memory of a layer's output is else requested from the system every time, and
    filling it with zeros took up to a quarter of a network's time. Only for the allocator
    of Linux' usual C library: two thresholds are set, and threads that start from now on
    share one arena, since free memory of a thread's own arena goes back at once.
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


def map_in_order(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Generator[tuple[Item, Result], None, None]:
    """Yield each item with the result of `work`, in the items' order.

    Parameters
    ----------
    workers
        Items worked on at once; one more may wait, finished. With one, everything happens
        in the calling thread.

    Yields
    ------
    tuple
        The item and its result. Close the generator where it is not used up.

    Raises
    ------
    Exception
        The first that `work` raises; items not begun by then are skipped.
    """
    if workers <= 1:
        for item in items:
            yield item, work(item)
        return
    threads = torch.get_num_threads()
    share = max(1, threads // workers)
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(share,))
    pending: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            pending.append((item, pool.submit(work, item)))
            if len(pending) > workers:
                first, future = pending.popleft()
                yield first, future.result()
        while pending:
            first, future = pending.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        # What a worker set for itself is also what threads that start later begin with.
        torch.set_num_threads(threads)
