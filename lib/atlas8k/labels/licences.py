"""What a source dataset's licence lets an export pass on, and the attribution that it asks for.

The letters are Creative Commons': NC for no commercial use, ND that nothing adapted is shared, SA
that what is adapted is shared under the same licence. A label map put together from several
sources is adapted; a CT that is copied byte for byte is not.

Where a source says that it states no licence, nothing of it is shared. Where its licence is not
known here, be it no dataset of the registry or one without a licence there, its labels are left out
for commercial use; for sharing they stay, and the attribution says that the licence is not known.
Its CTs stay for either. This is no legal advice; who shares a dataset answers for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Literal

from atlas8k.labels.datasets import Dataset, DatasetMapError, Stated, find_versions, read_maps

Purpose = Literal["share", "commercial", "internal"]
"""What an export is for: to be shared, to be used commercially, or for the owner's use alone."""


@cache
def registered(name: str | None, own: str | None = None) -> Dataset | None:
    """Return the registry's entry of a dataset or family; None where it has none.

    Parameters
    ----------
    own
        File of the user's own entries.

    Raises
    ------
    DatasetMapError
        That file cannot be used: nothing would be known of any licence.
    """
    if own is not None:
        read_maps(own)
    try:
        return find_versions(name or "", own)[-1]
    except DatasetMapError:
        return None


def letters(licence: str) -> frozenset[str]:
    """Return which of NC, ND and SA a licence has."""
    return frozenset(re.split(r"[\s-]", licence.upper())) & {"NC", "ND", "SA"}


def forbids(dataset: Dataset | None, purpose: Purpose, *, adapted: bool) -> str:
    """Return why something of a dataset may not be exported; empty where it may.

    Parameters
    ----------
    adapted
        It is a label, or a CT that is not copied as it is.
    """
    if dataset is None or not dataset.licence or purpose == "internal":
        return ""
    has = letters(dataset.licence)
    what = f"{dataset.name} ({dataset.licence})"
    if dataset.licence in ("private", "none stated"):
        return f"{what}: its licence does not let it be shared"
    if adapted and "ND" in has:
        return f"{what}: nothing adapted of it may be shared"
    if purpose == "commercial" and "NC" in has:
        return f"{what}: not for commercial use"
    return ""


def forbids_label(name: str | None, purpose: Purpose, own: str | None = None) -> str:
    """Return why labels of a dataset may not be exported; empty where they may.

    Parameters
    ----------
    own
        File of the user's own entries.
    """
    entry = registered(name, own)
    if purpose == "commercial" and (entry is None or not entry.licence):
        return f"{name or 'its dataset'}: its licence is not known, so not for commercial use"
    return forbids(entry, purpose, adapted=True)


def forbids_help(tool: str, licence: str, purpose: Purpose) -> str:
    """Return why a label that a tool helped with may not be exported; empty where it may.

    Whether the licence of weights binds what is drawn with them is not settled; here it does.
    """
    if purpose == "commercial" and "NC" in letters(licence):
        return f"{tool} helped, whose weights ({licence}) are not for commercial use"
    return ""


def demands(dataset: Dataset | None) -> list[str]:
    """Return what who uses or shares something of a dataset must heed, in words."""
    if dataset is None or not dataset.licence:
        return ["licence not known here: see the source"]
    words = {
        "NC": "no commercial use",
        "ND": "share nothing adapted",
        "SA": "share what is adapted under the same licence",
    }
    own = [text for letter, text in words.items() if letter in letters(dataset.licence)]
    if dataset.licence in ("private", "none stated"):
        own = ["not to be shared"]
    return ["name the source", *own]


_CELLS: tuple[Stated, ...] = ("licence", "url", "citation")


def stated(dataset: Dataset, field: Stated) -> str:
    """Return what the registry says of a dataset, and whether nobody has verified it; in words."""
    value = getattr(dataset, field)
    text = " ".join(value) if isinstance(value, tuple) else str(value or "")
    return f"{text} (not verified)" if text and field in dataset.unverified else text


def attribution(counts: Mapping[str, int], purpose: Purpose, own: str | None = None) -> str:
    """Return a page (Markdown) that names every source, its licence and what that asks for.

    Parameters
    ----------
    counts
        Volumes by name of the dataset; ``""`` for those without one.
    """
    lines = ["# Sources", ""]
    if purpose == "internal":
        lines += ["**For internal use.** It holds what its sources do not let be shared.", ""]
    lines += ["| dataset | volumes | licence | asks for | CTs from | cite |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    for name, count in sorted(counts.items()):
        entry = registered(name, own)
        cells = ["", "", ""] if entry is None else [stated(entry, field) for field in _CELLS]
        asks = "; ".join(demands(entry)) if name else "the owner's own terms"
        row = [name or "(none)", str(count), cells[0] or "not known", asks, cells[1], cells[2]]
        lines.append(f"| {' | '.join(row)} |")
    shared = {
        entry.licence
        for name in counts
        if (entry := registered(name, own)) and "SA" in letters(entry.licence)
    }
    if len(shared) > 1:
        lines += ["", f"Sources ask for different licences ({', '.join(sorted(shared))}): keep "
                  "each volume under its own, as a collection."]  # fmt: skip
    return "\n".join(lines) + "\n"
