"""For all tests."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

# Tables are as wide as this says; a run of several processes sets it to the terminal's width.
os.environ.pop("COLUMNS", None)


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
