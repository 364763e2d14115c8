from __future__ import annotations

import enum
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas8k.services.errors import RequestError
from atlas8k.services.studies.errors import BadNameError, StudiesFolderError
from atlas8k.services.studies.names import check_id, check_tag, id_fault, split_suffix, suffixes_of

BAD_IDS = (
    "", ".", "..", ".hidden", "../x", "..\\x", "a/b", "a\\b", "/etc/passwd", "a\x00b", "a\nb",
    "labels", "a..b", " a", "a ", "c:", 'a"b', "a*", "x" * 201, "\udcff", "é" * 101,
)  # fmt: skip


@pytest.mark.parametrize("name", BAD_IDS)
def test_ids_that_could_leave_the_folder_or_that_no_disk_takes_are_refused(name: str) -> None:
    with pytest.raises(BadNameError, match="image id"):
        check_id(name)


@pytest.mark.parametrize("name", ["BDMAP_00000001", "Case 01 (1)", "x.1", "Müller-3", "患者", "-"])
def test_ids_people_use_pass(name: str) -> None:
    assert check_id(name) == name


@given(st.text(max_size=300))
def test_an_accepted_id_is_one_path_component_below_the_folder(text: str) -> None:
    if id_fault(text) is None:
        assert "/" not in text
        assert "\\" not in text
        assert text not in {".", ".."}
        assert len(text.encode()) <= 200


@pytest.mark.parametrize(
    "tag",
    ["", ".history", "../../evil", "a/b", "a b", "final\n", "x" * 65, "ü", "a..b", "..", "-a"],
)
def test_tags_are_plain(tag: str) -> None:
    with pytest.raises(BadNameError, match="label tag"):
        check_tag(tag)


def test_monai_labels_enumeration_is_a_tag() -> None:
    class Tag(str, enum.Enum):  # noqa: UP042 - as MONAI Label's is
        FINAL = "final"

    assert check_tag(Tag.FINAL) == "final"
    assert type(check_tag(Tag.FINAL)) is str


def test_only_the_end_of_a_name_is_its_suffix() -> None:
    both = (".nii.gz", ".nii")
    assert split_suffix("a.nii.b.nii.gz", both) == ("a.nii.b", ".nii.gz")
    assert split_suffix("a.nii", both) == ("a", ".nii")
    assert split_suffix(".nii.gz", (".nii.gz",)) is None
    assert split_suffix("a.seg.nrrd", (".nrrd", ".seg.nrrd")) == ("a", ".seg.nrrd")


def test_patterns_of_monai_label_are_suffixes() -> None:
    assert suffixes_of(("*.nii.gz", ".nii", "*.nii.gz", "nrrd", "*")) == (
        ".nii.gz",
        ".nii",
        ".nrrd",
    )
    assert suffixes_of("*.nii") == (".nii",)


def test_errors_keep_their_text_between_processes() -> None:
    for error in (BadNameError("image id", "x/y", "why"), StudiesFolderError("p", "why")):
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert issubclass(BadNameError, RequestError)
    assert not issubclass(StudiesFolderError, RequestError)  # the server's fault
