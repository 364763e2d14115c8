"""Work in several threads, each with its share of PyTorch's own, results in order.

Two windows in two threads beat one window by two threads: no layer waits for the slower
half, and where the machine has other work too, PyTorch's threads spin while they wait for
each other (measured on two busy cores: three times the processor time).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], lanes: int
) -> Generator[tuple[Item, Result], None, None]:
    """Each item with what `work` makes of it, in the items' order.

    Parameters
    ----------
    lanes
        Items worked on at once; one more may wait, finished. With one, everything happens
        in the calling thread.

    Yields
    ------
    tuple
        The item and its result. Close the generator where it is not used up.

    Raises
    ------
    Exception
        The first that `work` raises; what has not begun then never does.
    """
    if lanes <= 1:
        for item in items:
            yield item, work(item)
        return
    threads = torch.get_num_threads()
    share = max(1, threads // lanes)
    pool = ThreadPoolExecutor(lanes, initializer=torch.set_num_threads, initargs=(share,))
    pending: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            pending.append((item, pool.submit(work, item)))
            if len(pending) > lanes:
                first, future = pending.popleft()
                yield first, future.result()
        while pending:
            first, future = pending.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        # What a lane set for itself is also what threads that start later begin with.
        torch.set_num_threads(threads)
