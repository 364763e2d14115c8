"""The commands in the project's README files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
READMES = sorted(
    path
    for top in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "apps", "lib", "sample-datasets")
    for path in (ROOT / top, *(ROOT / top).rglob("*.md"))
    if path.is_file() and path.suffix == ".md" and "node_modules" not in path.parts
)
BLOCK = re.compile(r"^```(?:bash|sh|console)?\n(.*?)^```|((?:^ {4}.*\n)+)", re.M | re.S)


def commands(readme: Path) -> Iterator[list[str]]:
    """Yield every ``atlas8k`` line of the blocks of a README as words, comments left out.

    Lines that end with a backslash go on; ``[optional parts]`` are taken as given, without
    their brackets, and ``…`` after a word is no part of it.
    """
    for block in BLOCK.finditer(readme.read_text(encoding="utf-8")):
        lines = iter((block[1] or block[2]).replace("\\\n", " ").splitlines())
        for line in lines:
            if not line.strip().startswith("atlas8k "):
                continue
            text = line
            while text.count("'") % 2:  # quoted JSON over several lines
                text += " " + next(lines)
            plain = re.sub(r"\[((?:--|[A-Za-z])[^\]]*)\]", r"\1", text).replace("…", "")
            yield shlex.split(plain, comments=True)
