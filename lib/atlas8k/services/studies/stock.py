"""What stock MONAI Label knew of the labels of a folder, from its ``datastore_v2.json``.

The file is read and never written: the folder can go on being served by stock MONAI Label.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

STOCK_FILE = "datastore_v2.json"
_OWN = frozenset({"ts", "name", "checksum"})
"""What MONAI Label writes into a label's info itself; the rest is what the client sent."""


@dataclass(frozen=True)
class StockLabel:
    """What is known of a label.

    Attributes
    ----------
    params
        As the client sent them with the label, ``label_info`` among them.
    client
        Client id of who saved it, else of who was given the image last before that.
    at
        When it was saved, UTC seconds since 1970.
    """

    params: Mapping[str, Any]
    client: str | None
    at: float | None


def stock_labels(root: Path, tag: str) -> dict[str, StockLabel]:
    """Labels of a tag by image id; empty where there is no such file, or it is damaged."""
    path = root / STOCK_FILE
    try:
        objects = json.loads(path.read_bytes())["objects"]
        return {
            str(image): _label(entry["labels"][tag], entry.get("image"))
            for image, entry in objects.items()
            if tag in entry.get("labels", {})
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        logger.warning(
            "%s: cannot be read (%r); labels of the folder are imported without it", path, error
        )
        return {}


def _label(label: Mapping[str, Any], image: Mapping[str, Any] | None) -> StockLabel:
    info = dict(label.get("info") or {})
    at = _moment(info.get("ts"))
    client = info.get("client_id")
    if not isinstance(client, str) or not client:
        client = _given_to((image or {}).get("info") or {}, at)
    return StockLabel({k: v for k, v in info.items() if k not in _OWN}, client, at)


def _given_to(info: Mapping[str, Any], before: float | None) -> str | None:
    """Whom a strategy gave the image last, not after `before`."""
    given = info.get("strategy")
    found = [
        (moment, one["client_id"])
        for one in (given.values() if isinstance(given, dict) else ())
        if isinstance(one, dict)
        and isinstance(one.get("client_id"), str)
        and (moment := _moment(one.get("ts"))) is not None
        and (before is None or moment <= before)
    ]
    return max(found)[1] if found else None


def _moment(value: object) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and math.isfinite(value) else None  # type: ignore[arg-type]
