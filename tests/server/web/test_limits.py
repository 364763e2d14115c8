"""Bodies and headers that are too large."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from atlas8k.server.faults import install_handlers
from atlas8k.server.limits import MIB, Limits

UPLOAD_MB = 2.0


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()

    @app.post("/")
    async def route(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    @app.post("/json")
    def json_route(body: dict[str, object]) -> dict[str, int]:
        return {"keys": len(body)}

    app.add_middleware(Limits, upload_mb=lambda: UPLOAD_MB)
    install_handlers(app)
    return TestClient(app)


def pieces(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield b"x" * (MIB // 4)


@pytest.mark.parametrize("path", ["/", "/json"])
def test_a_body_is_counted_whatever_its_length_is_said_to_be(client: TestClient, path: str) -> None:
    json = {"content-type": "application/json"}
    assert client.post("/", content=pieces(4), headers=json).json() == {"bytes": MIB}
    for content in (pieces(5), b"x" * (MIB + 1)):
        answer = client.post(path, content=content, headers=json)
        assert answer.status_code == 413
        assert "1 MiB" in answer.json()["detail"]


def test_an_upload_has_a_bound_of_its_own(client: TestClient) -> None:
    sent = client.post("/", files={"file": ("x", b"x" * (2 * MIB))})
    assert sent.status_code == 200
    answer = client.post("/", files={"file": ("x", b"x" * (4 * MIB))})
    assert answer.status_code == 413
    assert "upload_mb" in answer.json()["detail"]


def test_large_headers(client: TestClient) -> None:
    answer = client.post("/", headers={"x-long": "y" * 20_000})
    assert answer.status_code == 431
    assert answer.json()["detail"]
