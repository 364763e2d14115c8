"""Log lines that nobody outside can forge or multiply."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable

LOGGERS = ("", "uvicorn", "urllib3.connectionpool", "task_train", "task_scoring",
           "task_batch_infer")  # fmt: skip
"""Those that MONAI Label gives handlers, but for the access log, whose paths are quoted."""
CONTROL = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"
    "\ud800-\udfff]"
)
"""Line breaks, escapes for terminals, signs that turn the direction of writing, half characters."""
BURST = {
    "asyncio": 1,
    "uvicorn.error": 3,
    "atlas8k.server.connections": 1,
    **dict.fromkeys(
        (f"atlas8k.server.{name}" for name in ("access", "faults", "hosts", "limits", "routes")), 20
    ),
}
"""Records a minute that one line of code may make, by the beginning of its logger's name."""
MINUTE_S = 60.0


def plain(text: str) -> str:
    r"""Return a text with control characters written as such: a line break as ``\n``."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class OneLine(logging.Filter):
    """Makes one line of every message; a traceback's lines stand in from the margin.

    Names of files, images and people come from outside: with a line break in them they would
    write lines of their own into the log.
    """

    _formatter = logging.Formatter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record, once however many handlers it goes to."""
        if getattr(record, "one_line", False):
            return True
        record.one_line = True
        record.msg, record.args = plain(record.getMessage().rstrip()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = self._formatter.formatException(record.exc_info)
        if record.exc_text:
            lines = record.exc_text.splitlines()
            record.exc_text = "\n".join("  " + plain(line) for line in lines)
        return True


class Repeated(logging.Filter):
    """Lets few records a minute through of what one line of code says again and again.

    Connections that cannot be accepted, or requests that are refused, would otherwise fill the
    disk in the time of whoever sends them. Errors of ours with an id are all let through.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._seen: dict[object, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Decide, once however many handlers the record goes to."""
        decided = getattr(record, "let_through", None)
        if decided is None:
            decided = record.let_through = self._decide(record)
        return bool(decided)

    def _decide(self, record: logging.LogRecord) -> bool:
        names = (most for name, most in BURST.items() if f"{record.name}.".startswith(f"{name}."))
        most = next(names, None)
        if most is None or (record.levelno >= logging.ERROR and record.name.startswith("atlas8k")):
            return True
        kind = record.exc_info[0] if record.exc_info else None
        key = (record.name, record.pathname, record.lineno, record.levelno, kind)
        moment = self._clock()
        since, count = self._seen.get(key, (moment, 0))
        left_out = 0
        if moment - since >= MINUTE_S:
            left_out, since, count = max(0, count - most), moment, 0
        self._seen[key] = (since, count + 1)
        if count >= most:
            return False
        if left_out:
            record.msg = f"{record.getMessage()} (and {left_out} like this before)"
            record.args = None
        return True


REPEATED = Repeated()


def install() -> None:
    """Set up the handlers of this process, again at will; after those of :mod:`privacy`."""
    handlers = {handler for name in LOGGERS for handler in logging.getLogger(name).handlers}
    for handler in handlers:
        for old in [one for one in handler.filters if isinstance(one, OneLine | Repeated)]:
            handler.removeFilter(old)
        handler.addFilter(REPEATED)
        handler.addFilter(OneLine())
