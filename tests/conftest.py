"""For all tests.

``--sample 0.5`` runs about half of the test files, which half by ``--sample-seed``: for tests
that are too long to run all each time.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator

import hypothesis
import pytest

from atlas8k.core import acting

# A busy machine is no failure.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

# Tables are as wide as this says; a run of several processes sets it to the terminal's width.
os.environ.pop("COLUMNS", None)


@pytest.fixture(autouse=True)
def nobody_acts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that an earlier test ran in this process say who acts, for all that follows."""
    monkeypatch.setattr(acting, "_process", acting.Actor())
    acting._actor.set(None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Have what a test logged fit into a report, whatever bytes its file names are of.

    Reports of several processes are sent as UTF-8, which has no place for stray bytes.
    """
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--sample", type=float, default=1.0, help="share of the test files to run")
    parser.addoption("--sample-seed", default="0", help="which of them; any text")


def pytest_report_header(config: pytest.Config) -> str | None:
    share, seed = config.getoption("--sample"), config.getoption("--sample-seed")
    return f"sample: {share:g} of the test files, --sample-seed {seed}" if share < 1 else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    share, seed = config.getoption("--sample"), config.getoption("--sample-seed")
    if share >= 1:
        return
    chosen = [one for one in items if _drawn(f"{seed} {_unit(one)}") < share]
    config.hook.pytest_deselected(items=[one for one in items if one not in set(chosen)])
    items[:] = chosen


def _unit(item: pytest.Item) -> str:
    """Return what is drawn as one: a benchmark, else a file, whose tests share a server."""
    return item.nodeid if item.get_closest_marker("benchmarks") else item.path.name


def _drawn(key: str) -> float:
    """Return a number from 0 to 1, the same for the same key."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
