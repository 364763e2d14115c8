"""Requests made up from the server's own description of its interface: never its fault.

``ATLAS8K_OPENAPI_CASES`` sets how many in all; the default is what every change waits for.
"""

from __future__ import annotations

import html
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.generation import GenerationMode
from tests.e2e.harness import Server
from tests.e2e.small import IMAGES, LIMIT_S, label_bytes, put_label, small_server

pytestmark = pytest.mark.slow
CASES = int(os.environ.get("ATLAS8K_OPENAPI_CASES", "600"))
STARTS = {"/train/{model}", "/batch/infer/{model}", "/scoring/{method}"}
"""They start processes of seconds each; a few of them say as much as many."""


KNOWN = {
    "model": "unet",
    "image": IMAGES[0],
    "label": IMAGES[0],
    "tag": "final",
    "strategy": "first",
    "method": "attention",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with small_server(tmp_path_factory.mktemp("openapi")) as started:
        yield started


def ask(
    operation: Any, mode: GenerationMode, send: Callable[..., None], cases: int, operations: int
) -> None:
    """Send a third of an operation's share of the cases: some routes can be asked nothing wrong."""

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=cases // (3 * operations) + 1,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def run(case: schemathesis.Case) -> None:
        send(case)

    try:
        run()
    except Unsatisfiable:  # a route that takes nothing, or any text, can be asked nothing wrong
        assert mode is GenerationMode.NEGATIVE, operation.label


def test_the_first_pages_need_nothing_from_elsewhere(server: Server) -> None:
    schema = requests.get(f"{server.url}/openapi.json", timeout=LIMIT_S).json()
    for path in ("/", "/docs"):
        answer = requests.get(f"{server.url}{path}", timeout=LIMIT_S)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/html")
        assert not re.search(r"<script|src=|href=.(https?:)?//|@import|url\(", answer.text)
        for link in re.findall(r'href="([^"]+)"', answer.text):
            assert requests.get(f"{server.url}{link}", timeout=LIMIT_S).status_code == 200, link
        shown = html.unescape(answer.text)
        if path == "/":
            assert f"server <code>{server.url}</code>" in shown
            assert '<th scope="row">Volumes</th><td>3</td>' in shown
            assert re.search(r"<td>scored \d of 3", shown)
            continue
        assert "---" not in shown
        assert "``" not in shown
        for route, methods in schema["paths"].items():
            for method, found in methods.items():
                said = shown.partition(f"<code>{method.upper()} {route}</code>")[2]
                said = said.partition("<h3>")[0]
                for one in found.get("parameters", ()):
                    assert f"<code>{one['name']}</code>" in said, (route, method)


def test_no_request_is_answered_with_5xx(server: Server, tmp_path: Path) -> None:
    put_label(server, label_bytes(tmp_path))
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    count: Counter[int] = Counter()
    faults: list[str] = []

    def send(case: schemathesis.Case, with_known: bool) -> None:
        if with_known:
            for parameters in (case.path_parameters, case.query):
                for name in KNOWN.keys() & dict(parameters or {}).keys():
                    parameters[name] = KNOWN[name]
        answer = case.call(base_url=server.url, timeout=LIMIT_S)
        count[answer.status_code] += 1
        if answer.status_code >= 500:
            faults.append(
                f"{answer.status_code} {case.as_curl_command()[:600]}\n{answer.text[:300]}"
            )

    for operation in operations:
        for mode in GenerationMode:
            # Half of them with names that are there, to come past the 404.
            for with_known in (False, operation.path not in STARTS):
                ask(operation, mode, partial(send, with_known=with_known), CASES, len(operations))
    made = sum(count.values())
    print(f"{made} requests to {len(operations)} operations: {dict(count)}")  # noqa: T201
    assert not faults, "\n".join(faults[:10])
    assert made >= CASES
    assert count[200] > made // 50
    assert requests.get(f"{server.url}/info/", timeout=LIMIT_S).status_code == 200
    assert "Traceback" not in server.text()
