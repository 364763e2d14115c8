"""Exceptions as replies: whose fault it is must be told apart."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from monailabel.interfaces.exception import ImageNotFoundException

from atlas8k.core.errors import (
    AttentionError,
    CheckpointError,
    LedgerError,
    NotFiniteError,
    TrainingError,
)
from atlas8k.server.faults import install_handlers
from atlas8k.services.errors import ConflictError, NotFoundError, RequestError

CALLER = [
    (NotFoundError("model", "x", ["a", "b"]), 404, "there are: a, b"),
    (ImageNotFoundException("Image z not found"), 404, "Image z not found"),
    (ConflictError("exists"), 409, "exists"),
    (TrainingError("nothing submitted"), 409, "nothing submitted"),
    (RequestError("params: not JSON"), 422, "params"),
    (NotFiniteError(Path("ct.nii.gz"), "holds NaN"), 422, "ct.nii.gz: holds NaN"),
]
OURS = [
    (LedgerError("disk full"), "disk full"),
    (CheckpointError("unet.safetensors", "damaged"), "unet.safetensors: damaged"),
    (AttentionError("probabilities", "are NaN"), "are NaN"),
    (ValueError("secret detail"), "inside the server"),
    (KeyError("x"), "inside the server"),
]


def ask(error: Exception) -> tuple[int, dict[str, str]]:
    app = FastAPI()

    @app.get("/")
    def route() -> None:
        raise error

    install_handlers(app)
    answer = TestClient(app, raise_server_exceptions=False).get("/")
    return answer.status_code, answer.json()


@pytest.mark.parametrize(("error", "code", "text"), CALLER)
def test_the_callers_fault_is_4xx_with_the_reason(error: Exception, code: int, text: str) -> None:
    status, body = ask(error)
    assert (status, "id" in body) == (code, False)
    assert text in body["detail"]


@pytest.mark.parametrize(("error", "text"), OURS)
def test_ours_is_500_with_an_id_that_is_in_the_log(
    error: Exception, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        status, body = ask(error)
    assert status == 500
    assert text in body["detail"]
    assert "secret" not in body["detail"]
    assert body["id"] in caplog.text
