"""Check values of settings as they are typed; each function raises ``ValueError``."""

from __future__ import annotations

import json
import re
from pathlib import Path

from atlas8k.core.rankings import RANKINGS
from atlas8k.core.selection import SELECTIONS
from atlas8k.core.weighting import Weights


def device(value: str) -> str:
    """Check a device: ``auto``, ``cpu``, ``cuda`` or one GPU of several."""
    if value in {"auto", "cpu", "cuda"} or (
        value.startswith("cuda:") and value.removeprefix("cuda:").isdecimal()
    ):
        return value
    raise ValueError("allowed are auto, cpu, cuda, cuda:0, cuda:1 ...")


def json_object(value: object) -> object:
    """Read a JSON object, or a file with one."""
    if not isinstance(value, str):
        return value
    try:
        text = value if value.lstrip().startswith("{") else Path(value).read_text(encoding="utf-8")
        content = json.loads(text)
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise ValueError("give a JSON object without spaces, or a file with one")
    return content


def weights(value: str) -> str:
    """Check the weights of networks, and return them in the form of :mod:`.weighting`."""
    return str(Weights.parse(value))


def ranking(value: str | None) -> str | None:
    """Check the name of a ranking; None or nothing: none is chosen."""
    if value and value not in RANKINGS:
        raise ValueError(f"allowed are {', '.join(RANKINGS)}")
    return value or None


def selection(value: str | None) -> str | None:
    """Check the name of a selection; None or nothing: none is chosen."""
    if value and value not in SELECTIONS:
        raise ValueError(f"allowed are {', '.join(SELECTIONS)}")
    return value or None


def server(value: str) -> str:
    """Check the address of a server; nothing: there is none."""
    if value and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value):
        raise ValueError("give an address such as http://gpu.example:1527")
    return value


def origins(value: str) -> str:
    """Check origins of web pages, with commas between them."""
    for origin in value.split(","):
        if origin.strip() != "*" and not re.fullmatch(r"https?://[^\s/,*]+", origin.strip()):
            raise ValueError("give origins such as https://viewer.example, or *")
    return value


def host_names(value: str) -> str:
    """Names of hosts with commas between them, without port."""
    for name in value.split(","):
        if not re.fullmatch(r"\*|(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]*)", name.strip()):
            raise ValueError("give names such as atlas.example.org, without https:// and port")
    return value
