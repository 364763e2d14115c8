"""Count sign-ins that failed, and say how long to wait: passwords are not to be guessed here.

The realm may count too, but it sees one address, this server's.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

FREE = {"both": 5, "address": 20, "user": 50}
"""Failures that cost nothing: of one name from one address, from one address, of one name from
anywhere. The last is large, so that nobody is kept out by somebody else's guesses at once."""
FIRST_WAIT_S = 30.0
LONGEST_WAIT_S = 900.0
"""The wait doubles with every failure beyond the free ones, up to this."""
FORGOTTEN_S = 3600.0
"""Without a failure for so long, it begins anew."""
MOST_KEPT = 10_000
"""Names and addresses remembered; beyond it the oldest are forgotten."""

_Key = tuple[str, str, str]


@dataclass
class _Failures:
    count: int = 0
    last: float = 0.0
    until: float = 0.0


class Attempts:
    """Failed sign-ins of this process, by name and address.

    Parameters
    ----------
    clock
        Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._failures: dict[_Key, _Failures] = {}

    def wait_s(self, user: str, address: str) -> int:
        """Return whole seconds until a name may be tried from an address; 0: now."""
        now = self._clock()
        with self._lock:
            known = [self._failures.get(key) for key in _keys(user, address)]
            return max(0, *(math.ceil(one.until - now) for one in known if one is not None), 0)

    def failed(self, user: str, address: str) -> None:
        """Note that the realm did not know name and password."""
        now = self._clock()
        with self._lock:
            for key in _keys(user, address):
                known = self._failures.pop(key, _Failures())
                if now - known.last > FORGOTTEN_S:
                    known = _Failures()
                over = known.count + 1 - FREE[key[0]]
                wait = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(over, 16)) if over >= 0 else 0
                # The last one noted comes last: the first are the oldest.
                self._failures[key] = _Failures(known.count + 1, now, now + wait)
            while len(self._failures) > MOST_KEPT:
                del self._failures[next(iter(self._failures))]

    def succeeded(self, user: str, address: str) -> None:
        """Forget the failures of a name from an address."""
        with self._lock:
            self._failures.pop(_keys(user, address)[0], None)


def _keys(user: str, address: str) -> tuple[_Key, _Key, _Key]:
    name = user.casefold()[:200]
    return ("both", name, address), ("address", "", address), ("user", name, "")
