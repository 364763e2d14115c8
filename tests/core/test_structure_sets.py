"""Structure sets: the built-in ones, files of one, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from atlas8k.core.errors import SettingsError
from atlas8k.core.label_mapping import Terminology, map_label
from atlas8k.core.structure_sets import (
    MOST,
    NINE,
    StructureSet,
    built_in,
    built_in_names,
    find_set,
    from_dict,
)
from atlas8k.core.structures import (
    ORGAN_IDS,
    ORGAN_NAMES,
    ORGANS,
    find_organ,
    in_use,
    using,
)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("abdomenatlas-1.0", 9),
        ("abdomenatlas-1.1", 25),
        ("a-eval", 8),
        ("totalsegmentator-abdomen", 22),
    ],
)
def test_built_in_sets(name: str, count: int) -> None:
    found = find_set(name)
    assert len(found.names) == count
    assert list(found.ids.values()) == list(range(1, count + 1))
    assert len({organ.color for organ in found.organs}) == count
    for organ in found.organs:
        assert organ.pair is None or found.organs[found.ids[organ.pair] - 1].pair == organ.name


def test_1_1_goes_on_where_1_0_ends() -> None:
    assert built_in("abdomenatlas-1.0").names == NINE == built_in("abdomenatlas-1.1").names[:9]
    built_in("abdomenatlas-1.1").check_holds(dict(enumerate(NINE, start=1)))


def test_codes_are_those_of_pydicoms_dictionary() -> None:
    concepts = pytest.importorskip("pydicom.sr._concepts_dict").concepts["SCT"]
    meanings: dict[str, set[str]] = {}
    for of_keyword in concepts.values():
        for code, (meaning, _) in of_keyword.items():
            meanings.setdefault(code, set()).add(meaning.casefold())
    kidneys = {"18639004", "9846003"}  # sides of their own, which the dictionary leaves out
    for name in built_in_names():
        for organ in built_in(name).organs:
            if organ.snomed_code not in kidneys:
                assert organ.snomed_meaning.casefold() in meanings[organ.snomed_code]


def test_a_set_in_use_is_what_everything_goes_by() -> None:
    assert in_use().name == "abdomenatlas-1.0"
    assert find_organ("duodenum") is None
    with using(built_in("abdomenatlas-1.1")):
        assert (len(ORGANS), ORGAN_NAMES[-1], ORGAN_IDS["duodenum"]) == (25, "rectum", 15)
        assert find_organ("Left-Femur") == ORGANS[16]
        assert map_label("small bowel").organ == "intestine"
    assert (len(ORGANS), ORGAN_NAMES) == (9, NINE)
    with using(built_in("a-eval")):
        assert ORGAN_IDS["liver"] == 1
        assert map_label("aorta").kind == "unknown"


def test_a_code_without_a_side_is_told_apart_by_its_modifier_or_name() -> None:
    adrenal, left, right = "23451007", "7771000", "24028007"
    assert map_label("s1", Terminology(adrenal, left)).kind == "unknown"
    with using(built_in("abdomenatlas-1.1")):
        assert map_label("s1", Terminology(adrenal, left)).organ == "adrenal_gland_left"
        assert map_label("s1", Terminology(adrenal, right)).organ == "adrenal_gland_right"
        assert map_label("s1", Terminology(adrenal)).kind == "unknown"
        assert map_label("s1", Terminology("38848004")).organ == "duodenum"


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_a_set_is_read_from_a_file(tmp_path: Path, suffix: str) -> None:
    record: dict[str, Any] = {
        "structures": {
            "liver": None,
            "duodenum": {"minutes": 20, "tolerance_mm": 2},
            "heart": {"snomed": ["80891009", "Heart"], "aliases": ["cor"], "one_piece": True},
        }
    }
    path = tmp_path / f"mine{suffix}"
    path.write_text(json.dumps(record) if suffix == ".json" else yaml.safe_dump(record))
    found = find_set(path)
    assert (found.name, set(found.names)) == ("mine", {"liver", "duodenum", "heart"})
    heart = found.by_word["cor"]
    assert (heart.snomed_code, heart.snomed_meaning) == ("80891009", "Heart")
    duodenum = found.by_word["duodenum"]
    assert (duodenum.minutes, duodenum.tolerance_mm) == (20.0, 2.0)
    assert from_dict(found.as_dict()).as_dict() == found.as_dict()


def test_a_list_of_known_names_is_a_set() -> None:
    found = from_dict({"name": "two", "structures": ["duodenum", "kidney_left"]})
    assert found.ids == {"duodenum": 1, "kidney_left": 2}
    assert found.organs[1].pair is None  # the right one is not annotated


HEART = {"snomed": ["80891009", "Heart"]}


@pytest.mark.parametrize(
    ("structures", "words"),
    [
        (["liver", "liver"], "liver stands there twice"),
        (["livr"], r"livr: not known \(did you mean liver\?\)"),
        ({"liver": {"id": 2}}, "liver has id 2, 1 is expected"),
        ({"liver": None, "heart": HEART | {"id": 1}}, "heart has id 1, 2 is expected"),
        ({"liver": None, "heart": HEART | {"aliases": ["hepar"]}}, "hepar .* both liver and heart"),
        ({"liver": None, "hepar": HEART}, "hepar .* both liver and hepar"),
        ({"heart": {"snomed": ["80891008", "Heart"]}}, "80891008 is no SNOMED CT concept id"),
        ({"heart": {"snomed": ["heart", "Heart"]}}, "heart is no SNOMED CT concept id"),
        ({"heart": {}}, r"heart: snomed: \[code, meaning\] is expected"),
        ({"heart": HEART | {"colour": [1, 2, 3]}}, "heart: colour: no such key"),
        ({"heart": HEART | {"color": [1, 2, 300]}}, "heart: color: three numbers"),
        ({"heart": HEART | {"minutes": 0}}, "heart: minutes: above 0"),
        ({"heart": HEART | {"pair": "lung"}}, "the pair of heart, lung, is not in the set"),
        ({"Heart": HEART}, "'Heart' is written 'heart'"),
        ([], "0 structures; 1 to 254"),
        ({f"part_{i}": HEART for i in range(300)}, "300 structures; 1 to 254"),
    ],
)
def test_what_is_no_set_is_refused_by_name(structures: Any, words: str) -> None:
    assert MOST == 254
    with pytest.raises(SettingsError, match=words):
        from_dict({"name": "mine", "structures": structures})


def test_a_set_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"did you mean abdomenatlas-1\.[01]\?"):
        find_set("abdomen-atlas-1.1")
    with pytest.raises(SettingsError, match=r"mine\.yaml: cannot be read"):
        find_set(tmp_path / "mine.yaml")
    (tmp_path / "list.yaml").write_text("[liver]")
    with pytest.raises(SettingsError, match="a mapping with name and structures"):
        find_set(tmp_path / "list.yaml")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("twice.yaml", "structures:\n  liver: {color: [1, 2, 3]}\n  spleen:\n  liver:\n"),
        ("twice.json", '{"structures": {"liver": {}, "spleen": {}, "liver": {}}}'),
    ],
)
def test_a_file_that_names_a_structure_twice_is_refused(
    tmp_path: Path, name: str, text: str
) -> None:
    """A reader of YAML or JSON takes the later of the two in silence."""
    (tmp_path / name).write_text(text)
    with pytest.raises(SettingsError, match="liver stands there twice"):
        find_set(tmp_path / name)
    (tmp_path / name).write_text('structures: {liver: {snomed: ["10200004", Liver], snomed: []}}')
    with pytest.raises(SettingsError, match="snomed stands there twice"):
        find_set(tmp_path / name)


def test_a_set_must_hold_what_a_campaign_has() -> None:
    former = dict(enumerate(NINE, start=1))
    with pytest.raises(SettingsError, match=r"has aorta as 1, which is liver there.*Nothing was"):
        built_in("a-eval").check_holds(former)
    shorter = StructureSet("eight", built_in("abdomenatlas-1.0").organs[:8])
    with pytest.raises(SettingsError, match="has stomach as 9, which is missing there"):
        shorter.check_holds(former)
