"""Names this server answers to, and pages that may change something."""

from __future__ import annotations

import socket

import pytest
from starlette.datastructures import Headers

from atlas8k.server.hosts import HostNames, OwnPages

NAMES = ("atlas.example.org", "*.lan.example", "")
OURS = "atlas.example.org"


@pytest.mark.parametrize(
    "host",
    [
        *(
            "localhost",
            "localhost:8000",
            "LOCALHOST.",
            "a.localhost",
            "127.0.0.1",
            "127.0.0.1:8000",
        ),
        *("[::1]", "[::1]:8000", "192.168.3.4:80", "[fe80::1]:1", "Atlas.Example.org:443"),
        *("a.lan.example", "b.a.lan.example:1", socket.gethostname()),
    ],
)
def test_known_names(host: str) -> None:
    assert host in HostNames(NAMES)


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example"),
        *(
            "atlas.example.org.evil.example",
            "lan.example",
            "evillan.example",
            "x@localhost",
            "[::1",
        ),
        *("127.0.0.1@evil.example", "", ":8000", "0x7f.1", "localhost/", "a" * 300, "1.2.3.4.5"),
    ],
)
def test_other_names(host: str) -> None:
    assert host not in HostNames(NAMES)


def test_every_name_where_it_is_asked_for() -> None:
    assert "evil.example" in HostNames(["*"])
    assert "" not in HostNames(["*"])


async def nobody(*_: object) -> None:
    raise AssertionError


HERE = {"host": "127.0.0.1:8000"}


@pytest.mark.parametrize(
    ("headers", "lets"),
    [
        ({}, True),  # 3D Slicer, our commands
        ({"origin": "http://127.0.0.1:8000"}, True),
        ({"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"origin": "https://viewer.example"}, True),  # --conf cors_origins
        ({"origin": "http://evil.example"}, False),
        ({"origin": "http://127.0.0.1:9000"}, False),
        ({"origin": "http://localhost:8000"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        # A default port of the other scheme looks like ours.
        ({"host": OURS, "origin": f"http://{OURS}:443", "sec-fetch-site": "same-site"}, False),
        ({"host": OURS, "origin": f"http://{OURS}:443", "sec-fetch-site": "cross-site"}, False),
        # Behind a proxy: it keeps the host, or says it beside its own.
        ({"host": OURS, "origin": f"https://{OURS}"}, True),
        ({"host": f"{OURS}:443", "origin": f"https://{OURS}"}, True),
        ({"origin": f"https://{OURS}", "x-forwarded-host": OURS}, True),
        ({"origin": f"https://{OURS}"}, False),
        ({"origin": "http://evil.example", "x-forwarded-host": "evil.example"}, False),
        ({"origin": "http://evil.example", "x-forwarded-host": OURS}, False),
    ],
)
def test_pages_that_may_change_something(headers: dict[str, str], lets: bool) -> None:
    pages = OwnPages(nobody, HostNames(NAMES), ["https://viewer.example/"])
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert (pages.fault(method, Headers({**HERE, **headers})) == "") is lets
    assert pages.fault("GET", Headers({**HERE, **headers})) == ""


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
def test_another_name_is_refused_whatever_is_asked_and_the_reason_says_what_to_do(
    method: str,
) -> None:
    pages = OwnPages(nobody, HostNames(()))
    said = pages.fault(method, Headers({"host": "evil.example:8000"}))
    assert "evil.example" in said
    assert "allowed_hosts" in said
