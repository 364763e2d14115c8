"""The list with hashes is that without, but for what depends on the machine."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s\\;]+)", re.MULTILINE)
OF_THE_MACHINE = {"torch", "torchvision"}
"""Each GPU, and none, has its own build of them; installed first."""


def pins(name: str) -> dict[str, str]:
    return dict(PINNED.findall((ROOT / name).read_text(encoding="utf-8")))


def test_both_lists_pin_the_same() -> None:
    plain, hashed = pins("requirements.txt"), pins("requirements-hashed.txt")
    assert plain.keys() >= OF_THE_MACHINE
    assert hashed == {name: v for name, v in plain.items() if name not in OF_THE_MACHINE}


def test_every_pin_has_a_hash_and_nothing_says_where_from() -> None:
    text = (ROOT / "requirements-hashed.txt").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=[A-Za-z0-9])", "\n" + text.partition("\n#")[2].partition("\n")[2])
    assert len([one for one in entries if "==" in one]) == len(pins("requirements-hashed.txt"))
    for entry in entries:
        if "==" in entry:
            assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry
    assert "://" not in text
    assert not re.search(r"^--", text, re.MULTILINE)
