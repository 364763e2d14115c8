"""Compare a CT with those that networks were trained on, feature by feature, in words.

Nothing is estimated: a feature lies in the range of the training CTs or not, a word is common
among them or rare. It changes no ranking and excludes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from atlas8k.content.features import Features, Labels, measure
from atlas8k.content.phase import UNSURE
from atlas8k.core.errors import SettingsError
from atlas8k.core.grid import Grid, Volume

RANGE_FILE = "trained_range.json"
RANGE_FORMAT = "atlas8k-trained-range/1"
RARE = 0.05
"""Share of the training CTs below which a word is rare among them."""
OUTERMOST = 0.5
"""Per cent of the training CTs beyond either end of a range: one odd CT makes no range."""
INVENTED = 0.5, 0.25
"""Parts of the least agreement of networks, and of the least share of the body that is organs,
among the training CTs: below either, the predicted organs are invented."""
LIKE = "like the training CTs"
UNKNOWN = "not known: there is no record of the CTs these networks were trained on"

Ranges = Mapping[str, Any]


class Feature(NamedTuple):
    """The words, unit and digits after the point of a feature."""

    words: str
    unit: str = ""
    digits: int = 0
    small_only: bool = False
    """Whether only less than in training is unlike it."""


FEATURES: Mapping[str, Feature] = {
    "phase": Feature("contrast phase"),
    "coverage": Feature("coverage"),
    "height_mm": Feature("height", "mm"),
    "organs": Feature("organs found", small_only=True),
    "organ_share": Feature("share of the body that is organs", "%", 1),
    "noise_hu": Feature("noise", "HU"),
    "pixel_mm": Feature("pixel", "mm", 2),
    "slice_mm": Feature("slice distance", "mm", 1),
    "body_cm2": Feature("cross-section of the body", "cm²"),
    "position": Feature("patient lies"),
    "agreement": Feature("agreement of the networks", "", 2, small_only=True),
}


def trained_ranges(measured: Iterable[Features], made_of: str) -> dict[str, Any]:
    """Compute the ranges of features over training CTs, JSON-ready.

    Parameters
    ----------
    measured
        Features of each CT.
    made_of
        Description of these CTs, for people who read the file.
    """
    rows = list(measured)
    features: dict[str, Any] = {}
    for name, feature in FEATURES.items():
        values = [row[name] for row in rows if row.get(name) is not None]
        words = [value for value in values if isinstance(value, str)]
        numbers = [value for value in values if isinstance(value, float)]
        if words:
            features[name] = {
                word: round(words.count(word) / len(words), 3) for word in sorted(set(words))
            }
        elif numbers:
            ends = np.percentile(numbers, [OUTERMOST, 100 - OUTERMOST])
            features[name] = [round(float(end), max(2, feature.digits)) for end in ends]
    return {"format": RANGE_FORMAT, "made_of": made_of, "rows": len(rows), "features": features}


def read_ranges(folder: Path) -> dict[str, Any] | None:
    """Read the ranges stored with a set of networks, ``None`` where there are none.

    Raises
    ------
    SettingsError
        The file is damaged.
    """
    path = folder / RANGE_FILE
    try:
        ranges: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if ranges["format"] != RANGE_FORMAT or not isinstance(ranges["features"], dict):
            raise ValueError(f"its format is not {RANGE_FORMAT}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise SettingsError(f"{path}: no ranges of training CTs ({err}); make it anew") from err
    return ranges


def familiar(ct: Volume, labels: Labels, grid: Grid, ranges: Ranges | None) -> dict[str, Any]:
    """Measure a CT and compare it with the training CTs; JSON-ready, stored with the score.

    Parameters
    ----------
    ct, labels, grid
        As :func:`~atlas8k.content.features.measure` takes them.

    Returns
    -------
    dict
        As :func:`compare`, and ``hu``, ``cut`` and ``lung_above`` of
        :func:`~atlas8k.content.features.measure`.
    """
    features, derived = measure(ct, labels, grid)
    return {**compare(features, ranges), **derived}


def compare(features: Features, ranges: Ranges | None) -> dict[str, Any]:
    """Compare a CT's features with the training CTs'.

    Returns
    -------
    dict
        ``like``: whether none is unlike, ``None`` where there are no ranges; ``text``: one
        line on it; ``unlike``: the features that are unlike, in words; ``invented``: the reason
        why the predicted organs seem invented, else ``None``; ``features``: of each ``name``,
        ``words``, ``value``, ``unit``, ``trained`` (two ends, or shares by word) and ``like``.
    """
    trained = {} if ranges is None else ranges["features"]
    lines, unlike = [], []
    for name, feature in FEATURES.items():
        value, trained_range = features.get(name), trained.get(name)
        like = None
        if value is not None and value != UNSURE and trained_range is not None:
            like = _like(value, trained_range, feature)
        if isinstance(value, float):
            value = round(value, feature.digits + 1)
        line = {"name": name, "words": feature.words, "value": value, "unit": feature.unit}
        lines.append({**line, "trained": trained_range, "like": like})
        if like is False:
            unlike.append(line_text(lines[-1]))
    text = f"unlike: {'; '.join(unlike)}" if unlike else LIKE
    return {
        "like": None if ranges is None else not unlike,
        "text": UNKNOWN if ranges is None else text,
        "unlike": unlike,
        "invented": _invented(features, trained),
        "features": lines,
    }


def _invented(features: Features, trained: Mapping[str, Any]) -> str | None:
    for name, part in zip(("agreement", "organ_share"), INVENTED, strict=True):
        value, trained_range = features.get(name), trained.get(name)
        if (
            isinstance(value, float)
            and trained_range is not None
            and value < part * trained_range[0]
        ):
            feature = FEATURES[name]
            space = f" {feature.unit}" if feature.unit else ""
            return (
                f"{feature.words} {value:.2f}{space}, in training CTs at least "
                f"{trained_range[0]:.{feature.digits}f}"
            )
    return None


def _like(value: float | str, trained_range: Any, feature: Feature) -> bool:
    if isinstance(value, str):
        return bool(trained_range.get(value, 0.0) >= RARE)
    low, high = trained_range
    return bool(low <= value and (feature.small_only or value <= high))


def line_text(line: Mapping[str, Any]) -> str:
    """Return a feature of :func:`compare` in words, with the range of the training CTs."""
    value, trained_range, unit = line["value"], line["trained"], line["unit"]
    digits = FEATURES[line["name"]].digits
    space = f" {unit}" if unit else ""
    if value is None:
        return f"{line['words']} not known"
    if isinstance(value, str):
        share = "" if trained_range is None else _share(trained_range.get(value, 0.0))
        return f"{line['words']} {value}{share}"
    text = f"{line['words']} {value:.{digits}f}{space}"
    if trained_range is None:
        return text
    return f"{text}, trained {trained_range[0]:.{digits}f} to {trained_range[1]:.{digits}f}"


def _share(share: float) -> str:
    return f", {100 * share:.0f} % of the training CTs" if share else ", none of the training CTs"
