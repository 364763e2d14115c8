"""Bodies and headers that are too large, and who may send them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, FastAPI, File, Form, UploadFile
from fastapi.testclient import TestClient
from monailabel.config import settings
from pydantic import BaseModel, ConfigDict

from atlas8k.server import guarded_route
from atlas8k.server.access import USERS
from atlas8k.server.faults import install_handlers
from atlas8k.server.guarded_route import GuardedRoute
from atlas8k.server.limits import MIB, HeaderLimit, is_text

UPLOAD_MB = 2.0


class Act(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    do: str = ""
    label: UploadFile | None = None


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.setattr(guarded_route, "upload_mb", lambda: UPLOAD_MB)
    router = APIRouter(route_class=GuardedRoute, dependencies=[USERS])

    @router.post("/json")
    def json_route(body: dict[str, Any]) -> dict[str, int]:
        return {"keys": len(body)}

    @router.post("/form")
    def form_route(info: Annotated[str, Form()]) -> dict[str, int]:
        return {"letters": len(info)}

    @router.post("/upload")
    def upload_route(file: Annotated[UploadFile, File()]) -> dict[str, int | None]:
        return {"bytes": file.size}

    @router.post("/act")
    def act_route(asked: Annotated[Act, Form()]) -> dict[str, int | None]:
        return {"bytes": asked.label.size if asked.label else None}

    app = FastAPI()
    app.include_router(router)
    app.add_middleware(HeaderLimit)
    install_handlers(app)
    return TestClient(app)


def pieces(count: int, read: list[int] | None = None) -> Iterator[bytes]:
    for number in range(count):
        if read is not None:
            read.append(number)
        yield b"x" * (MIB // 4)


JSON = {"content-type": "application/json"}
MULTIPART = {"content-type": "multipart/form-data; boundary=x"}


@pytest.mark.parametrize(
    ("path", "headers"), [("/json", JSON), ("/json", MULTIPART), ("/form", MULTIPART)]
)
def test_a_body_is_counted_whatever_it_is_said_to_be(
    client: TestClient, path: str, headers: dict[str, str]
) -> None:
    for content in (pieces(5), b"x" * (MIB + 1)):
        answer = client.post(path, content=content, headers=headers)
        assert answer.status_code == 413
        assert "1 MiB" in answer.json()["detail"]


@pytest.mark.parametrize(("path", "field"), [("/upload", "file"), ("/act", "label")])
def test_an_upload_has_a_bound_of_its_own(client: TestClient, path: str, field: str) -> None:
    sent = client.post(path, files={field: ("x", b"x" * (2 * MIB))})
    assert sent.json() == {"bytes": 2 * MIB}
    answer = client.post(path, files={field: ("x", b"x" * (4 * MIB))})
    assert answer.status_code == 413
    assert "upload_mb" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/json", "/form", "/upload", "/act"])
def test_nothing_is_read_before_the_token(
    client: TestClient, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "MONAI_LABEL_AUTH_ENABLE", True)
    opened: list[object] = []
    monkeypatch.setattr("starlette.formparsers.SpooledTemporaryFile", opened.append)
    monkeypatch.setattr("starlette.requests.Request.stream", opened.append)
    for headers in (JSON, MULTIPART):
        answer = client.post(path, content=pieces(8), headers=headers)
        assert answer.status_code == 401
    assert not opened


def test_large_headers(client: TestClient) -> None:
    answer = client.post("/json", headers={"x-long": "y" * 20_000})
    assert answer.status_code == 431
    assert answer.json()["detail"]


@pytest.mark.parametrize(
    "content", [b'{"a": "\\ud800"}', b'{"\\udfff": 1}', b'{"a": ["\xed\xa0\x80"]}']
)
def test_half_a_character_is_refused(client: TestClient, content: bytes) -> None:
    answer = client.post("/json", content=content, headers=JSON)
    assert answer.status_code == 422
    assert "surrogate" in answer.json()["detail"]


def test_forms_are_utf_8(client: TestClient) -> None:
    body = b'--x\r\ncontent-disposition: form-data; name="info"\r\n\r\n\\ud800\r\n--x--\r\n'
    for charset, code in (("", 200), ("; charset=utf-8", 200), ("; charset=unicode_escape", 422)):
        headers = {"content-type": MULTIPART["content-type"] + charset}
        assert client.post("/form", content=body, headers=headers).status_code == code


def test_texts_of_json() -> None:
    assert is_text({"a": [1, None, "ä", "😀", {"b": 2.5}]})
    assert not is_text([[["\ud800"]]])
    assert not is_text({"\udc00": 1})
