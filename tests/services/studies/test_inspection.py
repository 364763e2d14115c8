"""Remarks: each image is looked into once, and what was found is known to everybody."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.services.studies.kit import Open, write

from atlas8k.core.errors import UnreadableVolumeError
from atlas8k.core.remarks import Remark, worst
from atlas8k.services.errors import NotFoundError
from atlas8k.services.studies.inspection import REFUSED, Inspector


class Reader:
    """Finds a remark in files that begin with "odd", and refuses those that begin with "bad"."""

    def __init__(self, name: str = "reader") -> None:
        self.looked: list[str] = []
        self.version = "1"
        self.inspector = Inspector(name, self.look, lambda _: self.version)

    def look(self, path: Path) -> Sequence[Remark]:
        self.looked.append(path.name)
        start = path.read_bytes()[:3]
        if start == b"bad":
            raise UnreadableVolumeError(path, "no image; copy it again")
        return (
            [Remark("odd_start", "it starts oddly", "note", {"at": 0})] if start == b"odd" else []
        )


def test_every_image_is_looked_into_once_and_again_when_it_changes(
    studies: Path, open_folder: Open, caplog: pytest.LogCaptureFixture
) -> None:
    for name, data in (("a", b"good"), ("b", b"odd 1"), ("c", b"bad 1")):
        write(studies / f"{name}.nii.gz", data)
    reader, other = Reader(), Reader("other")
    folder = open_folder(inspectors=[reader.inspector, other.inspector])
    with caplog.at_level(logging.INFO):
        folder.inspections.look()
    assert [line for line in caplog.messages if "it starts oddly" in line] == [
        "b: it starts oddly"
    ] * 2
    assert sorted(reader.looked) == ["a.nii.gz", "b.nii.gz", "c.nii.gz"]
    found = folder.catalogue.all_remarks()
    assert found["b"] == (Remark("odd_start", "it starts oddly", "note", {"at": 0}),) * 2
    assert found["c"][0] == Remark(REFUSED, "no image; copy it again", "blocked")
    assert list(found) == ["b", "c"]
    folder.inspections.look(deep=True)
    # A new start, in another process or not, knows it all and opens nothing.
    again = open_folder(inspectors=[reader.inspector])
    assert again.now().all_remarks() == found
    again.inspections.look()
    assert len(reader.looked) == 3
    # A file that changes in place is looked into again, by a deep look or when asked for.
    write(studies / "b.nii.gz", b"good now")
    assert again.remarks("b") == (found["b"][0],)  # what the other one has found stays
    reader.version = "2"
    folder.inspections.look(deep=True)
    assert folder.remarks("b") == ()
    assert len(reader.looked) == 7
    with pytest.raises(NotFoundError):
        folder.remarks("nobody")


def test_an_image_that_is_gone_has_no_remarks_in_the_list(studies: Path, open_folder: Open) -> None:
    write(studies / "b.nii.gz", b"odd")
    folder = open_folder(inspectors=[Reader().inspector])
    folder.inspections.look()
    (studies / "b.nii.gz").unlink()
    folder.refresh()
    assert folder.catalogue.all_remarks() == {}


def test_the_watcher_looks_into_images_without_being_asked(
    studies: Path, open_folder: Open
) -> None:
    write(studies / "b.nii.gz", b"odd")
    folder = open_folder(watch=True, every_s=0.05, inspectors=[Reader().inspector])
    end = time.monotonic() + 30
    while not folder.now().all_remarks() and time.monotonic() < end:
        time.sleep(0.01)
    assert [r.kind for r in folder.now().remarks("b")] == ["odd_start"]


def test_the_worst_of_several_remarks_decides() -> None:
    note, warning = Remark("a", "a", "note"), Remark("b", "b")
    assert worst([]) is None
    assert worst([note, warning]) == "warning"
    assert Remark.of(warning.as_dict()) == warning
