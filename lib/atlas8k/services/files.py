"""Small files, written whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atlas8k.core import files as disk


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file; ``{}`` where there is no file."""
    try:
        with open(path, encoding="utf-8") as stream:
            value = json.load(stream)
    except FileNotFoundError:
        return {}
    return dict(value)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file, complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    disk.write_json(path, value)
