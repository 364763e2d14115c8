"""What licences let out, and the registry against the paper's Table 3."""

from __future__ import annotations

from pathlib import Path

import pytest

from atlas8k.labels.datasets import DatasetMapError, known_datasets
from atlas8k.labels.licences import (
    attribution,
    demands,
    forbids,
    forbids_label,
    letters,
    registered,
)

# Qu et al., NeurIPS 2023, Table 3: licence, centres, countries.
TABLE = {
    "Pancreas-CT": ("CC BY 3.0", 1, "US"),
    "LiTS": ("CC BY-SA 4.0", 7, "DE NL CA FR IL"),
    "KiTS": ("CC BY-NC-SA 4.0", 1, "US"),
    "AbdomenCT-1K": ("CC BY-NC-SA", 12, "DE NL CA FR IL US CN"),
    "CT-ORG": ("CC BY 3.0", 8, "DE NL CA FR IL US"),
    "CHAOS": ("CC BY-SA 4.0", 1, "TR"),
    **{f"MSD{n}": ("CC BY-SA 4.0", 1, "US") for n in ("03", "06", "07", "08", "09", "10")},
    "BTCV": ("CC BY 4.0", 1, "US"),
    "AMOS22": ("CC BY-NC-SA", 2, "CN"),
    "WORD": ("GPL 3.0", 1, "CN"),
    "FLARE23": ("CC BY-NC-ND 4.0", 30, ""),
    "AbdomenCT-12organ": ("CC BY-NC-SA", None, ""),
    "TotalSegmentator v2": ("CC BY 4.0", 1, "CH"),
    "AATTCT-IDS": ("none stated", 1, "CN"),
    "CTSpine1K": ("CC BY-NC-SA", None, ""),
    "Abdominal Trauma Detection": ("none stated", 23, ""),
    "JHH": ("private", 1, "US"),
}


def test_the_registry_is_the_papers_table():
    known = known_datasets()
    for name, (licence, centres, countries) in TABLE.items():
        one = known[name]
        assert (one.licence, one.centres, " ".join(one.countries)) == (licence, centres, countries)
        assert one.citation
    taken = sum(known[name].volumes or 0 for name in TABLE)
    assert taken == 5195 - 945  # the Decathlon's


@pytest.mark.parametrize(
    ("name", "purpose", "adapted", "forbidden"),
    [
        ("BTCV", "commercial", True, False),
        ("KiTS", "share", True, False),
        ("kits19", "commercial", True, True),
        ("FLARE23", "share", True, True),
        ("FLARE23", "share", False, False),
        ("FLARE23", "commercial", False, True),
        ("FLARE23", "internal", True, False),
        ("JHH", "share", False, True),
        ("JHH", "internal", False, False),
        ("AATTCT-IDS", "share", False, True),
        ("WORD", "commercial", True, False),
        ("our own", "commercial", True, False),
        (None, "share", True, False),
    ],
)
def test_what_may_be_passed_on(name: str | None, purpose: str, adapted: bool, forbidden: bool):
    assert bool(forbids(registered(name), purpose, adapted=adapted)) is forbidden


@pytest.mark.parametrize(
    ("name", "purpose", "forbidden"),
    [
        ("our own", "commercial", "our own: its licence is not known"),
        ("AbdomenAtlas 1.1", "commercial", "AbdomenAtlas 1.1: its licence is not known"),
        (None, "commercial", "its dataset: its licence is not known"),
        ("our own", "share", ""),
        ("AbdomenAtlas 1.1", "share", ""),
        ("our own", "internal", ""),
        ("BTCV", "commercial", ""),
        ("FLARE23", "share", "nothing adapted"),
    ],
)
def test_labels_whose_licence_is_not_known(name: str | None, purpose: str, forbidden: str):
    found = forbids_label(name, purpose)
    assert forbidden in found
    assert bool(found) is bool(forbidden)


def test_a_file_that_cannot_be_used_is_no_unknown_licence(tmp_path: Path):
    own = tmp_path / "own.yaml"
    own.write_text("OWN: {licence: CC BY 4.0, labels: {1: liver}}\n")
    with pytest.raises(DatasetMapError):
        forbids_label("JHH", "share", str(own))


def test_letters_and_what_they_ask_for():
    assert letters("CC BY-NC-SA 4.0") == {"NC", "SA"}
    assert letters("GPL 3.0") == set()
    assert demands(registered("FLARE23")) == [
        "name the source", "no commercial use", "share nothing adapted",
    ]  # fmt: skip
    page = attribution({"KiTS": 3, "LiTS": 2, "": 1, "our own": 4}, "share")
    assert "Heller" in page
    assert "CC BY-NC-SA 4.0, CC BY-SA 4.0" in page
    assert "internal use" in attribution({}, "internal")
