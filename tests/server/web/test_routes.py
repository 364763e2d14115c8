"""Stock coroutines as plain functions."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from fastapi import FastAPI, Form
from fastapi.testclient import TestClient

from atlas8k.server.errors import RequestError
from atlas8k.server.web.caller import get_caller
from atlas8k.server.web.faults import install_handlers
from atlas8k.server.web.routes import parse_object, threaded


async def stock(model: str, params: str = Form("{}"), limit: int = 3) -> dict[str, Any]:
    """As MONAI Label writes them: nothing is awaited."""
    caller = get_caller()
    return {
        "model": model,
        "params": params,
        "limit": limit,
        "thread": threading.current_thread().name,
        "software": caller.software,
        "user": caller.user,
    }


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    app.add_api_route("/stock/{model}", threaded(stock, "/stock/{model}"), methods=["POST"])
    install_handlers(app)
    return TestClient(app, headers={"user-agent": "Slicer"})


def test_parameters_and_result_are_those_of_the_coroutine(client: TestClient) -> None:
    answer = client.post("/stock/a?limit=5", data={"params": '{"x": 1}'})
    assert answer.status_code == 200
    body = answer.json()
    assert (body["model"], body["params"], body["limit"]) == ("a", '{"x": 1}', 5)


def test_it_runs_beside_the_event_loop(client: TestClient) -> None:
    assert "MainThread" not in client.post("/stock/a").json()["thread"]
    assert "asyncio" not in client.post("/stock/a").json()["thread"]
    assert "AnyIO" in client.post("/stock/a").json()["thread"]


def test_the_caller_is_known_and_nobody_is_admin_without_sign_in(client: TestClient) -> None:
    body = client.post("/stock/a").json()
    assert (body["software"], body["user"]) == ("Slicer", "")
    assert get_caller().software == ""  # only within the request


@pytest.mark.parametrize("text", ["{", "[1]", '"x"', "nope", "[" * 5000])
def test_a_field_that_is_no_json_object_is_refused(client: TestClient, text: str) -> None:
    answer = client.post("/stock/a", data={"params": text})
    assert answer.status_code == 422
    assert "params" in answer.json()["detail"]


def test_an_empty_field_is_an_empty_object() -> None:
    assert parse_object("params", "") == {}
    with pytest.raises(RequestError):
        parse_object("params", "null")


def test_a_coroutine_that_waits_is_not_cut_off_silently() -> None:
    async def waits() -> None:
        import asyncio

        await asyncio.sleep(0)

    app = FastAPI()
    app.add_api_route("/", threaded(waits, "/"))
    with pytest.raises(RuntimeError, match="waits for something"):
        TestClient(app).get("/")
