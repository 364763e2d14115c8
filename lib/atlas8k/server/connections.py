"""How many connections there are, and how long each may take for what its client has to do.

uvicorn waits for ever for a client that connects and says nothing, sends half of its headers, or
reads no reply; and each accepts one more of this process's file descriptors. MONAI Label starts
uvicorn without a bound on either. So its protocol is made a little stricter before its socket
opens:

- Headers, the parts of a body and the reading of a reply have times after which the connection is
  closed. What the server itself takes to answer has none.
- Beyond the bound a new connection takes the place of the one that has waited longest without
  asking anything, then of one whose body comes too slowly. Where all are being answered, the new
  one gets a 503.

What is looked at of uvicorn's objects is ``cycle`` (the request in work), ``flow`` (whether reading
or writing is paused) and ``transport``; its two protocols, h11 and httptools, have the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import signal
import socket
from collections.abc import Callable
from typing import Any, ClassVar

import uvicorn

logger = logging.getLogger(__name__)

HEADER_S = 20.0
"""From the first byte of a request to the last of its headers."""
IDLE_S = 75.0
"""Without a request. Longer than what proxies in front keep open (nginx: 60 s), so that none of
them sends a request into a connection that is being closed."""
PAUSE_S = 30.0
"""Between two parts of a body."""
GRACE_S = 30.0
LEAST_RATE = 4096.0
"""Bytes a second that a body comes with, on the whole, after the grace."""
TOTAL_S = 3600.0
"""For a body to come, and for a reply to be read."""
WRITE_S = 60.0
"""For a client to read on in a reply."""
LOOK_S = 1.0
SLOW_AFTER_S = 5.0
"""A body is not called slow before."""
BACKLOG = 256
"""Connections that asyncio accepts before it looks at anything else."""
OTHER_FILES = 200
"""File descriptors for what is no connection: libraries, stores, logs, pipes."""
FILES_EACH = 3
"""File descriptors of one connection: its socket, an upload on disk and its copy."""


class Connection(asyncio.Protocol):
    """What is added to uvicorn's protocol: times, and a place among the others."""

    places: ClassVar[Places]
    transport: Any
    cycle: Any
    flow: Any

    refused = False
    waits_since: float | None = None
    """Since when no request is in work."""
    head_since: float | None = None
    """Since when a next request has begun to come."""
    asked_at = 0.0
    last_read = 0.0
    noted_at = 0.0
    received = 0
    unread_since: float | None = None
    reply_since: float | None = None
    seen: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place; reply 503 where there is none."""
        if not self.places.take(self):
            self.refused = True
            if isinstance(transport, asyncio.WriteTransport):
                transport.write(reply(503, "Service Unavailable", "Retry-After: 5"))
            transport.close()
            return
        super().connection_made(transport)
        self.waits_since = now()

    def data_received(self, data: bytes) -> None:
        """Note that something came, and when."""
        moment = now()
        self.note(moment)
        if self.waits_since is not None and self.head_since is None:
            self.head_since = moment
        self.last_read = moment
        self.received += len(data)
        super().data_received(data)
        self.note(moment)

    def pause_writing(self) -> None:
        """Note that the client does not read."""
        self.unread_since = now()
        self.reply_since = self.reply_since or self.unread_since
        super().pause_writing()

    def resume_writing(self) -> None:
        """Note that it does."""
        self.unread_since = None
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        self.places.open.discard(self)
        if not self.refused:
            super().connection_lost(exc)

    def note(self, moment: float) -> None:
        """Bring the times up to what has happened since."""
        if self.cycle is None or self.cycle.response_complete:
            if self.waits_since is None:
                self.waits_since, self.head_since = moment, None
        elif self.cycle is not self.seen:
            self.seen, self.asked_at, self.last_read = self.cycle, moment, moment
            self.received, self.waits_since, self.reply_since = 0, None, None
        if self.flow is not None and self.flow.read_paused:  # not the client's fault
            self.asked_at, self.last_read = self.asked_at + moment - self.noted_at, moment
        self.noted_at = moment

    def slow(self, moment: float, grace_s: float) -> bool:
        """Return whether a body is coming, and too slowly."""
        if self.waits_since is not None or not self.cycle.more_body or self.flow.read_paused:
            return False
        age = moment - self.asked_at
        late = moment - self.last_read > PAUSE_S or age > TOTAL_S
        return late or (age > grace_s and self.received < (age - grace_s) * LEAST_RATE)

    def overdue(self, moment: float) -> bool:
        """Return whether the client has taken too long for what it has to do."""
        if self.unread_since is not None and moment - self.unread_since > WRITE_S:
            return True
        if self.reply_since is not None and moment - self.reply_since > TOTAL_S:
            return True
        if self.waits_since is None:
            return self.slow(moment, GRACE_S)
        if self.head_since is None:
            return moment - self.waits_since > IDLE_S
        return moment - self.head_since > HEADER_S

    def drop(self) -> None:
        """Close it; a request that was begun and has no reply gets a 408."""
        self.places.open.discard(self)
        if self.transport.get_write_buffer_size():  # it would wait for a client that reads nothing
            self.transport.abort()
            return
        if self.waits_since is None:
            unanswered = not self.cycle.response_started
        else:
            unanswered = self.head_since is not None and not self.refuses_body()
        if unanswered:
            self.transport.write(reply(408, "Request Timeout"))
        self.transport.close()

    def refuses_body(self) -> bool:
        """Return whether what comes is the rest of a body that was answered unread."""
        return self.cycle is not None and self.cycle.more_body


class Places:
    """The open connections, of which there are at most `most`."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.open: set[Connection] = set()

    def take(self, new: Connection) -> bool:
        """Return whether there is a place for a new connection, made where need be."""
        if len(self.open) >= self.most:
            worst = self._least_needed(now())
            if worst is None:
                logger.warning("%d connections are being answered; further ones get 503", self.most)
                return False
            logger.warning("%d connections; new ones take the place of idle ones", self.most)
            worst.drop()
        self.open.add(new)
        return True

    def _least_needed(self, moment: float) -> Connection | None:
        for one in self.open:
            one.note(moment)
        waiting = [one for one in self.open if one.waits_since is not None]
        if waiting:
            return min(waiting, key=lambda one: one.waits_since or 0.0)
        slow = [one for one in self.open if one.slow(moment, SLOW_AFTER_S)]
        return min(slow, key=lambda one: one.asked_at, default=None)

    def look(self) -> None:
        """Close what is overdue."""
        moment = now()
        for one in list(self.open):
            one.note(moment)
            if one.overdue(moment):
                one.drop()

    async def watch(self) -> None:
        """Look once a second, for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                self.look()
            except Exception:  # another uvicorn: better no times than no connections
                logger.exception("connections are not looked after")


def now() -> float:
    """Return the time of the running event loop in seconds."""
    return asyncio.get_running_loop().time()


def reply(code: int, words: str, *headers: str) -> bytes:
    """Return a reply without a body, after which the connection is closed."""
    lines = [f"HTTP/1.1 {code} {words}", "Content-Length: 0", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def running_server() -> uvicorn.Server | None:
    """Return the uvicorn server that this process runs, ``None`` where it does not.

    MONAI Label hands it to nobody; it is what the signal to end goes to.
    """
    handler = signal.getsignal(signal.SIGTERM)
    server = getattr(handler, "__self__", None)
    return server if isinstance(server, uvicorn.Server) else None


def after_last_request(action: Callable[[], None]) -> None:
    """Have something done when the server that is starting is told to end, before it is gone.

    uvicorn then raises the signal to end once more, so that what Python does at
    the end of a process is not done.
    """
    server = running_server()
    if server is None:
        return
    shutdown = server.shutdown

    async def shut_down(sockets: list[socket.socket] | None = None) -> None:
        await shutdown(sockets)
        await asyncio.to_thread(action)

    server.shutdown = shut_down  # type: ignore[method-assign]


def bound_connections(most: int) -> Places | None:
    """Bound the connections of the server that is starting, before it accepts any.

    Returns
    -------
    Places or None
        ``None`` where no server is starting that listens by itself.
    """
    server = running_server()
    if server is None:
        return None
    allowed = raise_descriptors()
    if allowed:
        most = max(8, min(most, (allowed - OTHER_FILES) // FILES_EACH))
    places = Places(most)
    config = server.config
    protocol: Any = config.http_protocol_class
    config.http_protocol_class = type(
        f"Bounded{protocol.__name__}", (Connection, protocol), {"places": places}
    )
    config.ws_protocol_class = None  # nothing here speaks it, and it would not be counted
    config.timeout_keep_alive = int(IDLE_S)
    config.backlog = min(config.backlog, BACKLOG)
    # Held by the server: asyncio itself keeps no more than a weak reference to a task.
    server.connection_watch = asyncio.get_running_loop().create_task(  # type: ignore[attr-defined]
        places.watch()
    )
    logger.info("at most %d connections at a time", most)
    return places


def raise_descriptors() -> int:
    """Let this process open as many files as it may ask for; return how many, 0 if unknown."""
    try:
        resource: Any = importlib.import_module("resource")
    except ImportError:  # Windows has no such bound
        return 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 0 if soft == resource.RLIM_INFINITY else int(soft)
