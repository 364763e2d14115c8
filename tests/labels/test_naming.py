from __future__ import annotations

import pytest

from atlas8k.labels.naming import Term, term
from atlas8k.organs import ORGANS


@pytest.mark.parametrize("organ", ORGANS, ids=lambda organ: organ.name)
def test_organs_by_name_alias_and_code(organ) -> None:
    for name in (organ.name, *organ.aliases, organ.name.replace("_", " ").title()):
        assert term(name) == Term("organ", organ.name)
    for part in ("tumor", "lesion", "cyst", "tumour", "Tumors", "lesions", "cyst_2", "metastases"):
        assert term(f"{organ.name}_{part}") == Term("part", organ.name)
        assert term(f"{organ.name} {part}".title()) == Term("part", organ.name)
    assert term("Segment_1", organ.snomed_code) == Term("organ", organ.name, by_code=True)


@pytest.mark.parametrize(
    ("name", "due"),
    [
        ("Background", Term("background")),
        ("attention_liver", Term("attention")),
        ("Attention Liver", Term("attention")),
        ("attention", Term("attention")),
        ("kidney_left_cyst", Term("part", "kidney_left")),
        ("Left Kidney Cyst", Term("part", "kidney_left")),
        ("Tumor of the liver", Term("part", "liver")),
        ("hepatic lesion", Term("part", "liver")),
        ("pancreatic-cancer", Term("part", "pancreas")),
        ("masses in liver 2", Term("part", "liver")),
        ("kidney", Term("unknown")),  # which of the two?
        ("kidney_tumor", Term("unknown")),
        ("tumor", Term("unknown")),
        ("liver_vessel", Term("unknown")),
        ("heart_tumor", Term("unknown")),
        ("livers", Term("unknown")),
        ("Segment_1", Term("unknown")),
        ("", Term("unknown")),
    ],
)
def test_names(name: str, due: Term) -> None:
    assert term(name) == due


def test_a_name_is_believed_before_a_code() -> None:
    assert term("spleen", "10200004") == Term("organ", "spleen")
    assert term("attention_liver", "10200004") == Term("attention")
    assert term("Kidney", "64033007") == Term("unknown")
    assert term("Kidney", "64033007+7771000") == Term("organ", "kidney_left", by_code=True)
