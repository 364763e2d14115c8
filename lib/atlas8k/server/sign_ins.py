"""Sign-ins as a server of bearer tokens sees them: a token is used for the first time.

The realm knows who typed a password and when, and who was refused; here is when that reached us.
A token that is refused is in the log and not in the audit trail: anybody could fill it.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable

from atlas8k.core.acting import Actor
from atlas8k.services.looks import Looks

MOST = 10_000
"""Tokens that are remembered, by hash; one that is forgotten is a sign-in once more."""


class SignIns:
    """Which tokens have been used, and where that is recorded."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._lock = threading.Lock()
        self._looks: Looks | None = None

    def record_in(self, looks: Looks) -> None:
        """Record sign-ins there from now on."""
        self._looks = looks

    def used(self, token: str, actor: Actor, roles: Iterable[str]) -> None:
        """Record a sign-in, where this good token was not used before."""
        key = hashlib.sha256(token.encode(errors="replace")).digest()
        with self._lock:
            known = key in self._known
            self._known[key] = None
            self._known.move_to_end(key)
            if len(self._known) > MOST:
                self._known.popitem(last=False)
        if not known and self._looks is not None:
            self._looks.note("sign_in", by=actor, roles=sorted(roles))


sign_ins = SignIns()
"""Of this server."""
