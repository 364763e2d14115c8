from __future__ import annotations

import pytest
from pydicom import Dataset

from atlas8k.core.label_mapping import (
    _NAMES,
    _SYNONYMS,
    MappedLabel,
    Terminology,
    from_dicom,
    from_tag,
    map_label,
)
from atlas8k.core.structures import ORGANS, find_organ


@pytest.mark.parametrize("organ", ORGANS, ids=lambda organ: organ.name)
def test_organs_by_name_alias_and_code(organ) -> None:
    for name in (organ.name, *organ.aliases, organ.name.replace("_", " ").title()):
        assert map_label(name) == MappedLabel("organ", organ.name)
    for part in ("tumor", "lesion", "cyst", "tumour", "Tumors", "lesions", "cyst_2", "metastases"):
        assert map_label(f"{organ.name}_{part}") == MappedLabel("part", organ.name)
        assert map_label(f"{organ.name} {part}".title()) == MappedLabel("part", organ.name)
    assert map_label("Segment_1", Terminology(organ.snomed_code)) == MappedLabel(
        "organ", organ.name, by_code=True
    )


@pytest.mark.parametrize(
    ("name", "due"),
    [
        ("Background", MappedLabel("background")),
        ("attention_liver", MappedLabel("attention")),
        ("Attention Liver", MappedLabel("attention")),
        ("attention", MappedLabel("attention")),
        ("kidney_left_cyst", MappedLabel("part", "kidney_left")),
        ("Left Kidney Cyst", MappedLabel("part", "kidney_left")),
        ("Tumor of the liver", MappedLabel("part", "liver")),
        ("hepatic lesion", MappedLabel("part", "liver")),
        ("pancreatic-cancer", MappedLabel("part", "pancreas")),
        ("masses in liver 2", MappedLabel("part", "liver")),
        ("kidney", MappedLabel("unknown")),  # which of the two?
        ("kidney_tumor", MappedLabel("unknown")),
        ("tumor", MappedLabel("unknown")),
        ("liver_vessel", MappedLabel("unknown")),
        ("heart_tumor", MappedLabel("unknown")),
        ("livers", MappedLabel("unknown")),
        ("Segment_1", MappedLabel("unknown")),
        ("", MappedLabel("unknown")),
    ],
)
def test_names(name: str, due: MappedLabel) -> None:
    assert map_label(name) == due


def test_a_name_is_believed_before_a_code() -> None:
    assert map_label("spleen", Terminology("10200004")) == MappedLabel("organ", "spleen")
    assert map_label("attention_liver", Terminology("10200004")) == MappedLabel("attention")
    assert map_label("Kidney", Terminology("64033007")) == MappedLabel("unknown")
    left = Terminology("64033007", "7771000")
    assert map_label("Kidney", left) == MappedLabel("organ", "kidney_left", by_code=True)


@pytest.mark.parametrize(
    ("name", "organ"),
    [
        ("liver_1", "liver"),  # deleted and drawn again in 3D Slicer
        ("Liver 2", "liver"),
        ("liver (1)", "liver"),
        ("05_liver", "liver"),
        ("kidney_left_1", "kidney_left"),
        ("abdominal aorta", "aorta"),
        ("Leber", "liver"),
        ("livér", "liver"),
        ("LIVÉR", "liver"),
        ("Bauchspeicheldrüse", "pancreas"),
        ("Vésicule biliaire", "gall_bladder"),
        ("Hígado", "liver"),
        ("Niere links", "kidney_left"),
        ("Linke Niere", "kidney_left"),
        ("rein droit", "kidney_right"),
        ("riñón izquierdo", "kidney_left"),
        ("Kidney (left)", "kidney_left"),
        ("R kidney", "kidney_right"),
        ("Untere Hohlvene", "postcava"),
        ("Milz", "spleen"),
        ("estómago", "stomach"),
    ],
)
def test_names_as_people_write_them(name: str, organ: str) -> None:
    assert map_label(name) == MappedLabel("organ", organ)


@pytest.mark.parametrize(
    ("name", "may_be"),
    [
        ("kidney", ("kidney_left", "kidney_right")),
        ("Niere 2", ("kidney_left", "kidney_right")),
        ("kidneys", ("kidney_left", "kidney_right")),
        ("Left", ("kidney_left",)),
        ("left liver", ("liver",)),  # a lobe, or the whole?
        ("liver/spleen", ("liver", "spleen")),
        ("liver copy", ("liver",)),
        ("liver?", ("liver",)),
        ("rechte links Niere", ("kidney_left", "kidney_right")),
        ("rate", ()),  # French for spleen, and not in English
        ("heart", ()),
        ("Segment_5", ()),
    ],
)
def test_what_may_mean_an_organ_is_asked_about(name: str, may_be: tuple[str, ...]) -> None:
    assert map_label(name) == MappedLabel("unknown")
    assert map_label(name).may_be == may_be


KIDNEY, TISSUE, MASS = "64033007", "85756007", "4147007"


@pytest.mark.parametrize(
    ("name", "codes", "due"),
    [
        ("Left", Terminology(KIDNEY, "7771000"), MappedLabel("organ", "kidney_left", True)),
        ("Left", Terminology(KIDNEY), MappedLabel("organ", "kidney_left", True)),
        ("Rechts", Terminology("T-71000"), MappedLabel("organ", "kidney_right", True)),
        ("Left", Terminology(KIDNEY, "24028007"), MappedLabel("unknown")),  # which of the two?
        ("Left", Terminology("9846003"), MappedLabel("unknown")),
        ("Left", Terminology("10200004"), MappedLabel("unknown")),  # a lobe?
        ("Segment_5", Terminology("10200004"), MappedLabel("organ", "liver", True)),
        ("Segment_5", Terminology("7832008"), MappedLabel("organ", "aorta", True)),
        ("Segment_5", Terminology(TISSUE), MappedLabel("unknown")),  # 3D Slicer's default
        ("Segment_5", Terminology(TISSUE, None, "10200004"), MappedLabel("organ", "liver", True)),
        (
            "x",
            Terminology(TISSUE, None, KIDNEY, "7771000"),
            MappedLabel("organ", "kidney_left", True),
        ),
        ("Segment_5", Terminology(MASS, None, "10200004"), MappedLabel("part", "liver", True)),
        ("Segment_5", Terminology(MASS), MappedLabel("unknown")),
        (
            "Segment_5",
            Terminology("51114001", None, "10200004"),
            MappedLabel("unknown"),
        ),  # its artery
    ],
)
def test_codes(name: str, codes: Terminology, due: MappedLabel) -> None:
    assert map_label(name, codes) == due


def test_a_tag_and_a_dicom_item_say_the_same() -> None:
    tag = (
        "Segmentation.Status:inprogress|TerminologyEntry:Segmentation category and type~"
        "SCT^123037004^Anatomical Structure~SCT^64033007^Kidney~SCT^7771000^Left~"
        "Anatomic codes - DICOM master list~SCT^818981001^Abdomen~^^|"
    )
    item = Dataset()
    item.SegmentedPropertyTypeCodeSequence = [_item("64033007", "SCT")]
    item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
        _item("7771000", "SCT")
    ]
    item.AnatomicRegionSequence = [_item("818981001", "SCT")]
    due = Terminology(KIDNEY, "7771000", "818981001")
    assert from_tag(tag) == from_dicom(item) == due
    assert from_tag("Segmentation.Status:inprogress|") is None
    assert from_tag("") is None
    assert from_tag("TerminologyEntry:a~b") is None
    assert from_dicom(Dataset()) is None


def test_a_number_in_another_scheme_is_no_code() -> None:
    item = Dataset()
    item.SegmentedPropertyTypeCodeSequence = [_item("10200004", "99WARD")]
    assert from_dicom(item) is None
    assert from_tag("TerminologyEntry:c~SCT^1^a~FMA^10200004^Liver~^^~~^^~^^") is None


def _item(value: str, scheme: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = value, scheme
    return item


def test_no_name_stands_for_two_organs() -> None:
    names = [name for organ in ORGANS for name in (organ.name, *organ.aliases)]
    assert len(names) == len(set(names))
    for name, organ in _NAMES.items():
        assert find_organ(name) is None or find_organ(name).name == organ
        assert map_label(name) == MappedLabel("organ", organ)
    synonyms = [name for names in _SYNONYMS.values() for name in names]
    assert len(synonyms) == len(set(synonyms))
