"""Nothing that people use is lost in silence: routes, commands and settings against a list.

``before.txt`` is what there was before the code was put in order. ``since.txt`` says what
was added (``+``) and removed (``-``) since, each under a comment that says why.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def listed() -> set[str]:
    """Return the inventory as the two lists have it."""
    lines = set((HERE / "before.txt").read_text().splitlines())
    for line in (HERE / "since.txt").read_text().splitlines():
        if line.startswith("+ "):
            assert line[2:] not in lines, f"{line}: listed already"
            lines.add(line[2:])
        elif line.startswith("- "):
            lines.remove(line[2:])
        else:
            assert not line or line.startswith("#"), line
    return lines


def test_routes_commands_and_settings_are_those_listed():
    # In a process of its own: it changes MONAI Label's application, which other tests use.
    told = subprocess.run(
        [sys.executable, "-m", "tests.inventory.collect"],
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    now = {line for line in told.splitlines() if line.startswith(("setting", "command", "route"))}
    assert now - listed() == set(), "new: list it in since.txt, with why"
    assert listed() - now == set(), "gone: keep it, or list it in since.txt, with why"
