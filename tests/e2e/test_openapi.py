"""Requests made up from the server's own description of its interface: never its fault.

``ATLAS8K_OPENAPI_CASES`` sets how many in all; the default is what every change waits for.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.generation import GenerationMode
from tests.e2e.harness import Server
from tests.e2e.small import IMAGES, LIMIT_S, label_bytes, put_label, small_server

pytestmark = pytest.mark.slow
CASES = int(os.environ.get("ATLAS8K_OPENAPI_CASES", "600"))
STARTS = {"/train/{model}", "/batch/infer/{model}", "/scoring/{method}"}
"""They start processes of seconds each; a few of them say as much as many."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with small_server(tmp_path_factory.mktemp("openapi")) as started:
        yield started


def test_no_request_is_answered_with_5xx(server: Server, tmp_path: Path) -> None:
    put_label(server, label_bytes(tmp_path))
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    count: Counter[int] = Counter()
    faults: list[str] = []
    known = {
        "model": "unet",
        "image": IMAGES[0],
        "label": IMAGES[0],
        "tag": "final",
        "strategy": "first",
        "method": "attention",
    }

    for operation in operations:
        few = operation.path in STARTS
        each = max(3, CASES // len(operations) + 1)

        for mode in GenerationMode:
            # Half of them with names that are there, to come past the 404.
            for use_known in (False, True):

                @given(case=operation.as_strategy(generation_mode=mode))
                @settings(
                    max_examples=max(1, each // 4 + 1),
                    deadline=None,
                    database=None,
                    derandomize=True,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                def ask(case: schemathesis.Case, use_known: bool = use_known and not few) -> None:
                    if use_known:
                        for parameters in (case.path_parameters, case.query):
                            for name, value in known.items():
                                if isinstance(parameters, dict) and name in parameters:
                                    parameters[name] = value
                    answer = case.call(base_url=server.url, timeout=LIMIT_S)
                    count[answer.status_code] += 1
                    if answer.status_code >= 500:
                        faults.append(
                            f"{answer.status_code} {case.as_curl_command()[:600]}\n"
                            f"{answer.text[:300]}"
                        )

                ask()

    made = sum(count.values())
    print(f"{made} requests to {len(operations)} operations: {dict(count)}")  # noqa: T201
    assert not faults, "\n".join(faults[:10])
    assert made >= CASES
    assert count[200] > made // 50
    assert requests.get(f"{server.url}/info/", timeout=LIMIT_S).status_code == 200
    assert "Traceback" not in server.text()
