"""The bound on connections and their times, in a uvicorn that runs in this process."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvicorn

from atlas8k.server import connections
from atlas8k.server.connections import Places, bound_connections, raise_descriptors, running_server

SHORT = {"HEADER_S": 0.5, "PAUSE_S": 0.5, "GRACE_S": 0.5, "WRITE_S": 0.5, "LOOK_S": 0.05}
LONG_S = 20.0
"""Nothing here takes so long unless it never ends."""
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nbody"
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Server:
    """What the tests ask: `/` at once, `/wait` when told, `/large` 50 MB; `/deny` reads nothing."""

    def __init__(self) -> None:
        self.places: Places | None = None
        self.go = asyncio.Event()
        self.waiting = 0
        self.left = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            self.places = bound_connections(1000)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        path = scope["path"]
        if path == "/wait":
            self.waiting += 1
            await self.go.wait()
        elif path != "/deny":
            while (message := await receive()).get("more_body"):
                pass
            if message["type"] == "http.disconnect":
                return
        size = 50_000_000 if path == "/large" else 0
        headers = [(b"content-length", str(size).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(size // 1_000_000):
            await send({"type": "http.response.body", "body": bytes(1_000_000), "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        self.left += 1


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[tuple[Server, Callable[[], Awaitable[Pair]]]]:
    app = Server()
    config = uvicorn.Config(app, port=0, log_level="error", lifespan="on")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    opened: list[asyncio.StreamWriter] = []

    async def connect() -> Pair:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        opened.append(writer)
        await asyncio.sleep(0.02)  # it has its place
        return reader, writer

    try:
        yield app, connect
    finally:
        for writer in opened:
            writer.close()
        server.should_exit = True
        app.go.set()
        await asyncio.wait_for(task, LONG_S)


def run(test: Callable[[Server, Any], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with running() as (app, connect):
            await asyncio.wait_for(test(app, connect), 3 * LONG_S)

    asyncio.run(whole())


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SHORT.items():
        monkeypatch.setattr(connections, name, value)


async def ask(pair: Pair, request: bytes = GET) -> int:
    pair[1].write(request)
    found = await asyncio.wait_for(pair[0].readuntil(b"\r\n\r\n"), LONG_S)
    return int(found.split()[1])


async def ended(pair: Pair) -> bytes:
    with contextlib.suppress(ConnectionResetError):
        return await asyncio.wait_for(pair[0].read(), LONG_S)
    return b""


def path(name: str) -> bytes:
    return GET.replace(b"/ ", f"/{name} ".encode(), 1)


def test_beyond_the_bound_the_longest_idle_one_goes() -> None:
    async def test(app: Server, connect: Any) -> None:
        assert app.places is not None
        app.places.most = 3
        busy = await connect()
        busy[1].write(path("wait"))
        first, second = await connect(), await connect()
        third = await connect()
        assert await ended(first) == b""
        assert await ask(second) == 200
        assert await ask(third) == 200
        fourth = await connect()
        assert await ask(fourth) == 200
        assert len(app.places.open) == 3
        app.go.set()
        assert int((await busy[0].readuntil(b"\r\n\r\n")).split()[1]) == 200

    run(test)


def test_where_all_are_answered_the_new_one_gets_a_503() -> None:
    async def test(app: Server, connect: Any) -> None:
        assert app.places is not None
        app.places.most = 2
        busy = [await connect() for _ in range(2)]
        for one in busy:
            one[1].write(path("wait"))
        while app.waiting < 2:
            await asyncio.sleep(0.01)
        for _ in range(5):
            assert re.match(rb"HTTP/1.1 503 .*\r\nRetry-After: 5\r\n", await ended(await connect()),
                            re.DOTALL)  # fmt: skip
        app.go.set()
        for one in busy:
            assert int((await one[0].readuntil(b"\r\n\r\n")).split()[1]) == 200
        assert await ask(await connect()) == 200

    run(test)


def test_a_slow_body_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SLOW_AFTER_S", 0.2)

    async def test(app: Server, connect: Any) -> None:
        assert app.places is not None
        app.places.most = 2
        busy, slow = await connect(), await connect()
        busy[1].write(path("wait"))
        slow[1].write(POST)
        await asyncio.sleep(0.5)
        assert await ask(await connect()) == 200
        assert (await ended(slow)).startswith(b"HTTP/1.1 408 ")

    run(test)


@pytest.mark.parametrize("asked_before", [False, True])
@pytest.mark.parametrize("sent", [GET[:-2], POST])
def test_half_a_request_ends_with_a_408(short: None, sent: bytes, asked_before: bool) -> None:
    async def test(app: Server, connect: Any) -> None:
        pair = await connect()
        if asked_before:
            assert await ask(pair) == 200
        pair[1].write(sent)
        assert b"HTTP/1.1 408 " in await ended(pair)

    run(test)


def test_drops_of_headers_and_bodies_do_not_help(short: None) -> None:
    async def test(app: Server, connect: Any) -> None:
        pairs = [await connect(), await connect()]
        for pair, sent in zip(pairs, (GET[:-2] + b"X: ", POST), strict=True):
            pair[1].write(sent)
        for pair in pairs:
            with contextlib.suppress(ConnectionError):
                while not pair[0].at_eof():
                    pair[1].write(b"y")
                    await pair[1].drain()
                    await asyncio.sleep(0.05)
        assert app.places is not None
        assert not app.places.open

    run(test)


def test_silence_ends(short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "IDLE_S", 0.5)

    async def test(app: Server, connect: Any) -> None:
        assert await ended(await connect()) == b""

    run(test)


def test_who_reads_no_reply_is_let_go(short: None) -> None:
    async def test(app: Server, connect: Any) -> None:
        reader, writer = await connect()
        reader.set_exception(OSError("nobody reads"))
        writer.transport.pause_reading()
        writer.write(path("large"))
        assert app.places is not None
        while app.places.open:
            await asyncio.sleep(0.05)
        while not app.left:  # its route does not wait for ever
            await asyncio.sleep(0.05)

    run(test)


def test_what_the_server_takes_has_no_time(short: None) -> None:
    async def test(app: Server, connect: Any) -> None:
        pair = await connect()
        pair[1].write(path("wait"))
        await asyncio.sleep(1.5)
        app.go.set()
        assert int((await pair[0].readuntil(b"\r\n\r\n")).split()[1]) == 200
        assert await ask(pair) == 200

    run(test)


def test_a_body_that_was_answered_unread_is_thrown_away_but_not_for_ever(short: None) -> None:
    async def test(app: Server, connect: Any) -> None:
        deny = POST.replace(b"/ ", b"/deny ", 1)
        pair = await connect()
        assert await ask(pair, deny + bytes(100_000 - 4)) == 200
        assert await ask(pair) == 200  # the same connection
        pair = await connect()
        assert await ask(pair, deny) == 200
        with contextlib.suppress(ConnectionError):
            while not pair[0].at_eof():
                pair[1].write(b"y")
                await pair[1].drain()
                await asyncio.sleep(0.05)
        assert b"408" not in await ended(pair)

    run(test)


def test_without_a_server_nothing_is_bound() -> None:
    assert running_server() is None
    assert bound_connections(100) is None
    assert raise_descriptors() >= 0
