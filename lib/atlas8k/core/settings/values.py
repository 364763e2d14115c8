"""What a value of a setting may look like as it is typed; each raises ``ValueError``."""

from __future__ import annotations

import json
import re
from pathlib import Path

from atlas8k.core.weighting import Weights


def device(value: str) -> str:
    """``auto``, ``cpu``, ``cuda`` or one GPU of several."""
    if value in {"auto", "cpu", "cuda"} or (
        value.startswith("cuda:") and value.removeprefix("cuda:").isdecimal()
    ):
        return value
    raise ValueError("allowed are auto, cpu, cuda, cuda:0, cuda:1 ...")


def json_object(value: object) -> object:
    """A JSON object, or a file with one."""
    if not isinstance(value, str):
        return value
    try:
        text = value if value.lstrip().startswith("{") else Path(value).read_text(encoding="utf-8")
        found = json.loads(text)
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise ValueError("give a JSON object without spaces, or a file with one")
    return found


def weights(value: str) -> str:
    """What each network counts, in the form of :mod:`atlas8k.core.weighting`."""
    return str(Weights.parse(value))


def origins(value: str) -> str:
    """Origins of web pages with commas between them."""
    for origin in value.split(","):
        if origin.strip() != "*" and not re.fullmatch(r"https?://[^\s/,*]+", origin.strip()):
            raise ValueError("give origins such as https://viewer.example, or *")
    return value
