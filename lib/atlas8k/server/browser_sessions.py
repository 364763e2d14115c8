"""Who has signed in from a browser: a cookie names a session, whose tokens stay in this process.

So no script and no file of the browser has a token, and a session that is ended here has ended. The
realm decides how long one may go on: each time that the access token is about to end, it is asked
for the next.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from monailabel.config import settings

from atlas8k.server.grants import Grant, RefusedError, renewed
from atlas8k.server.tokens import RealmError

MOST = 1000
"""Sessions that are kept; beyond it the one that was idle longest ends."""
IDLE_S = 12 * 3600.0
"""A session ends when nothing was asked for so long; a realm ends it sooner, as a rule."""
EARLY_S = 30.0
"""The next access token is asked for so long before one ends."""
AGAIN_S = 10.0
"""A realm that did not answer is asked again after so long."""
WAIT_S = 5.0
"""A request waits so long for the renewal that another one has asked for: each holds a thread."""
NEVER = float("-inf")


def cookie_name() -> str:
    """Return the name of the cookie: browsers keep one for all ports of a machine."""
    return f"atlas8k_session_{settings.MONAI_LABEL_SERVER_PORT}"


@dataclass
class _Session:
    grant: Grant
    used: float
    tried: float = NEVER
    """When the realm did not answer last."""
    lock: threading.Lock = field(default_factory=threading.Lock)


class BrowserSessions:
    """Sessions of browsers, by the id in their cookie.

    Parameters
    ----------
    renew
        Returns the tokens that follow, see :func:`renewed`.
    clock
        Unix seconds, as the ends of tokens are.
    """

    def __init__(
        self, renew: Callable[[Grant], Grant] = renewed, clock: Callable[[], float] = time.time
    ) -> None:
        self._renew, self._clock = renew, clock
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        """The one that was used last comes last."""
        self._lock = threading.Lock()

    def begin(self, grant: Grant) -> str:
        """Keep tokens; return the id of their session."""
        number = secrets.token_urlsafe(32)
        with self._lock:
            self._sessions[number] = _Session(grant, self._clock())
            self._drop()
        return number

    def end(self, number: str) -> None:
        """Forget a session and its tokens."""
        with self._lock:
            self._sessions.pop(number, None)

    def token(self, number: str) -> str | None:
        """Return an access token of a session; None where it has ended.

        Raises
        ------
        RealmError
            The token has ended and the realm does not answer.
        """
        now = self._clock()
        with self._lock:
            self._drop()
            session = self._sessions.get(number)
            if session is None:
                return None
            session.used = now
            self._sessions.move_to_end(number)
        if session.grant.refresh and session.grant.ends - EARLY_S <= now:
            try:
                self._go_on(session)
            except RefusedError:
                self.end(number)
                return None
        elif session.grant.ends <= now:
            self.end(number)
            return None
        return session.grant.access

    def _go_on(self, session: _Session) -> None:
        """Replace the tokens of a session: one request at a time, as a refresh token counts once.

        Others take the old one while it is good, then wait a little for the next.
        """
        good = session.grant.ends > self._clock()
        if not session.lock.acquire(timeout=0 if good else WAIT_S):
            if good:
                return
            raise RealmError("the sign-in server does not answer")
        try:
            now = self._clock()
            if session.grant.ends - EARLY_S > now:  # another request has done it
                return
            if now - session.tried < AGAIN_S:
                raise RealmError("the sign-in server does not answer")
            try:
                session.grant = self._renew(session.grant)
            except RealmError:
                session.tried = self._clock()  # after its time: who waits does not ask again
                raise
        except RealmError:
            if not good:
                raise
        finally:
            session.lock.release()

    def _drop(self) -> None:
        """Forget what was idle too long, and what is too much."""
        oldest = self._clock() - IDLE_S
        while self._sessions:
            number, first = next(iter(self._sessions.items()))
            if first.used > oldest and len(self._sessions) <= MOST:
                return
            del self._sessions[number]


browser_sessions = BrowserSessions()
"""Of this server."""
