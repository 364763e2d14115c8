"""Do on the processor what follows from one network while a GPU runs the next."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType


class Behind:
    """Does one piece of work in a thread while its caller goes on; the next one waits for it.

    Not more than one, so that no more than one network's result waits in memory.

    Parameters
    ----------
    on
        False: everything is done at once, in the caller's thread.
    """

    def __init__(self, on: bool) -> None:
        self._pool = ThreadPoolExecutor(1, "behind") if on else None
        self._last: Future[None] | None = None

    def __enter__(self) -> Behind:
        return self

    def do(self, work: Callable[[], None]) -> None:
        """Begin with it once what was given before is done.

        Raises
        ------
        Exception
            That failed; `work` is not begun then.
        """
        if self._pool is None:
            work()
            return
        self.wait()
        self._last = self._pool.submit(work)

    def wait(self) -> None:
        """Wait for what was given last, and raise what it raised."""
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()  # nothing writes into an array any more that its caller dropped
        if kind is None:
            self.wait()
