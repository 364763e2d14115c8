"""A network whose file goes, or that needs more memory than there is, is the only one out."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import requests
from tests.e2e.harness import Server
from tests.e2e.small import LIMIT_S, small_server
from tests.server.tiny import checkpoint

from atlas8k.models.checkpoint import save_checkpoint

pytestmark = pytest.mark.slow
TOO_LARGE = (40_000,) * 3
"""Voxels of a window that no address space holds."""


def inferred(server: Server, model: str = "ensemble", image: str = "a") -> requests.Response:
    url = f"{server.url}/infer/{model}?image={image}&output=json"
    return requests.post(url, data={"params": "{}"}, timeout=LIMIT_S)


def out(server: Server) -> dict[str, str]:
    """What /info/ says of networks that take no part."""
    answer = requests.get(f"{server.url}/info/", timeout=LIMIT_S)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["atlas8k"]
    return dict(found["networks_out"])


def test_the_others_and_the_server_go_on(tmp_path_factory: pytest.TempPathFactory) -> None:
    with small_server(tmp_path_factory.mktemp("failing")) as server:
        networks = server.app / "model" / "embedded"
        assert out(server) == {}
        one = checkpoint("nnunet")
        greedy = dataclasses.replace(one.preprocessing, window_size=TOO_LARGE)
        save_checkpoint(
            networks / "nnunet.safetensors", dataclasses.replace(one, preprocessing=greedy)
        )

        answer = inferred(server)
        assert answer.status_code == 200, answer.text
        assert list(answer.json()["left_out"]) == ["nnunet"]
        assert list(out(server)) == ["nnunet"]
        assert "memory" in out(server)["nnunet"]
        assert "nnunet failed on" in server.text()
        assert inferred(server, "nnunet").status_code >= 400
        assert inferred(server, "unet").status_code == 200

        (networks / "unet.safetensors").unlink()
        answer = inferred(server, image="b")
        assert answer.status_code == 200, answer.text
        assert set(out(server)) == {"unet", "nnunet"}
        assert "is missing" in out(server)["unet"]
        assert "network unet is out" in server.text()
        assert inferred(server, "swin_unetr").status_code == 200
