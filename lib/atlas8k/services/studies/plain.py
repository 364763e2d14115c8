"""What clients send along with images and labels, made safe to keep and to send on.

One NaN or one lone surrogate in one label's info would make the whole list of a server
unsendable: JSON replies know neither.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from atlas8k.services.errors import RequestError

MAX_BYTES = 1 << 20
MAX_DEPTH = 32

OWN_KEYS = frozenset({"name", "path", "checksum"})
"""Said by the server alone: a viewer chooses the file to show by them."""


def plain(value: Any, depth: int = 0) -> Any:
    """`value` as JSON can carry it: NaN and infinity as null, unknown types as text.

    Raises
    ------
    RequestError
        Nested deeper than :data:`MAX_DEPTH`.
    """
    if depth > MAX_DEPTH:
        raise RequestError(f"info is nested deeper than {MAX_DEPTH} levels; send less")
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return str(value).encode(errors="replace").decode()
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, depth + 1) for item in value]
    item = getattr(value, "item", None)  # a numpy scalar
    if callable(item) and getattr(value, "ndim", None) == 0:
        return plain(item(), depth + 1)
    return plain(str(value))


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def dumps(value: Any) -> str:
    """Compact JSON text, not escaped beyond need."""
    return _ENCODER.encode(value)


def merged(known: Mapping[str, Any], more: Mapping[str, Any] | None) -> dict[str, Any]:
    """`known` updated by what a client sent, without the keys the server says itself.

    Under ``strategy`` every strategy writes its own key, so that key is merged one level
    deeper: MONAI Label reads it, adds to it and writes it back, and two at once would
    lose one.

    Raises
    ------
    RequestError
        Too deep, or larger than :data:`MAX_BYTES`.
    """
    new = {k: v for k, v in plain(more or {}).items() if k not in OWN_KEYS}
    before, after = known.get("strategy"), new.get("strategy")
    if isinstance(before, dict) and isinstance(after, dict):
        new["strategy"] = {**before, **after}
    result = {**known, **new}
    if len(dumps(result)) > MAX_BYTES:
        raise RequestError(f"info is larger than {MAX_BYTES >> 20} MiB; send less")
    return result
