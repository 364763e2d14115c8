"""Submissions, assembly, history and reviews: ledger and label files say the same at each step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tests.formats.seg_kit import save_seg

from abdomen_phantom import generate
from atlas8k.core.errors import EmptyVolumeError, GridMismatchError, VolumeError
from atlas8k.core.files import sha256_of
from atlas8k.core.organ_states import PlacesChanged, QualityFound
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import Grid, read_label, write_nifti
from atlas8k.core.voxels import renamed
from atlas8k.labels.plausibility import Body
from atlas8k.labels.provenance import read_provenance
from atlas8k.server.routes.datastore import said
from atlas8k.services.errors import ConflictError, NotFoundError, RequestError
from atlas8k.services.labels.service import LabelService, Receipt, chosen
from atlas8k.services.rebuild import rebuild
from atlas8k.services.rebuild_files import labels_on_disk
from atlas8k.store import Holder, Ledger, OrganScore, OrganSource

Array = npt.NDArray[np.uint8]
SHAPE = (12, 10, 9)
GRID = Grid(SHAPE, np.diag([-2.0, 2.0, 3.0, 1.0]))
ANNA, BEN, RITA = (Holder.identify(user=name) for name in ("anna", "ben", "rita"))
NOBODY = Holder.identify(address="10.0.0.7", software="Slicer")
INFO = [{"name": name, "idx": i} for name, i in ORGAN_IDS.items()]
LIVER, SPLEEN, STOMACH = (ORGAN_IDS[name] for name in ("liver", "spleen", "stomach"))


def slabs(**where: tuple[int, int]) -> Array:
    """Organs as slabs along the first axis."""
    array = np.zeros(SHAPE, np.uint8)
    for organ, (start, stop) in where.items():
        array[start:stop] = ORGAN_IDS[organ]
    return array


START = slabs(liver=(1, 4), spleen=(6, 8), stomach=(9, 10))


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    folder = tmp_path / "studies"
    folder.mkdir()
    for name in ("a", "b"):
        ct = np.random.default_rng(0).integers(-100, 100, SHAPE).astype(np.int16)
        write_nifti(folder / f"{name}.nii.gz", ct, GRID)
    return folder


@pytest.fixture
def label_service(studies: Path) -> Iterator[LabelService]:
    """Two CTs with a pseudo label each."""
    opened = LabelService.open(studies)
    opened.ledger.register_model_version("m0")
    for name in ("a", "b"):
        opened.keep_pseudo(name, START, GRID, {"model_version": "m0"})
    yield opened
    opened.close()


class Work:
    """What people do with a label_service, in one line each."""

    def __init__(self, label_service: LabelService, folder: Path) -> None:
        self.label_service, self.folder = label_service, folder

    def give(self, who: Holder) -> str | None:
        sample = self.label_service.ledger.next_sample(holder=who, strategy="first")
        return None if sample is None else sample.volume

    def send(self, who: Holder, array: Array, volume: str = "a", **params: object) -> Receipt:
        path = write_nifti(self.folder / "sent.nii.gz", array, GRID)
        return self.label_service.submit(volume, path, who, {"label_info": INFO, **params})

    def label(self, tag: str, volume: str = "a") -> Array:
        return read_label(
            self.label_service.folder.path / "labels" / tag / f"{volume}.nii.gz"
        ).array

    def organ(self, organ: int, tag: str = "original", volume: str = "a") -> list[int]:
        """Slabs along the first axis that are of the organ."""
        array = self.label(tag, volume) == organ
        return [int(x) for x in np.flatnonzero(array.any(axis=(1, 2)))]


@pytest.fixture
def work(label_service: LabelService, tmp_path: Path) -> Work:
    return Work(label_service, tmp_path)


def test_what_a_fractional_segmentation_was_cut_at_is_told_and_kept(
    work: Work, studies: Path, tmp_path: Path
) -> None:
    grid = Grid(SHAPE, np.diag([-2.0, -2.0, 3.0, 1.0]))  # as DICOM stacks them
    ct = np.random.default_rng(0).integers(-100, 100, SHAPE).astype(np.int16)
    write_nifti(studies / "a.nii.gz", ct, grid)
    share = np.zeros(SHAPE[:2], np.uint8)
    share[2:5, 2:5], share[3, 3] = 25, 242
    frames = [(1, z, share) for z in range(SHAPE[2])]
    sent = save_seg(tmp_path / "s.dcm", grid, frames, {1: "liver"}, kind="FRACTIONAL")
    receipt = work.label_service.submit("a", sent, ANNA)
    assert said(receipt)["notes"] == list(receipt.notes)
    assert "cut at 127.5, half of MaximumFractionalValue" in receipt.notes[0]
    assert (work.label("final") == LIVER).sum() == SHAPE[2]
    kept = read_provenance(work.label_service.folder.path / "labels" / "final" / "a.nii.gz")
    assert kept.detail["notes"] == list(receipt.notes)


def test_what_anatomy_forbids_is_said_in_the_reply_and_kept(tmp_path: Path) -> None:
    patient = generate(3, grid_spacing_mm=8.0)
    write_nifti(tmp_path / "c.nii.gz", patient.ct.array, patient.ct.grid)
    label_service = LabelService.open(tmp_path)
    label = patient.label.array
    table = np.arange(256, dtype=np.uint8)
    table[[3, 4]] = 4, 3
    for array, what in (
        (label, None),
        (np.flip(label, 2), "above the liver's centre"),
        (renamed(label, table), "left and right are swapped"),
    ):
        path = tmp_path / "labels" / "sent.nii.gz"
        write_nifti(path, np.asfortranarray(array), patient.label.grid)
        receipt = label_service.submit("c", path, ANNA, {})
        if what is None:
            assert receipt.notes == ()
            continue
        assert any(what in note for note in receipt.notes), receipt.notes
        kept = read_provenance(tmp_path / "labels" / "final" / "c.nii.gz")
        assert kept.detail["notes"] == list(receipt.notes)
    label_service.close()


def in_step(label_service: LabelService, volume: str = "a") -> None:
    """``labels/final`` is what the ledger has current, every submission's file is there."""
    current = label_service.ledger.current_submission(volume)
    final = label_service.folder.path / "labels" / "final" / f"{volume}.nii.gz"
    assert final.exists() == (current is not None)
    if current is not None:
        assert sha256_of(final) == current.sha256
        info = label_service.versions.current(volume, "final")
        assert info is not None
        assert info.info["submission"] == current.id
    for one in label_service.ledger.submissions(volume):
        assert one.file is not None
        assert sha256_of(label_service.folder.path / one.file) == one.sha256
    original = label_service.versions.current(volume, "original")
    assert original is not None
    stated = read_provenance(original.path)
    assert stated is not None
    kept = label_service.ledger.sources(volume)
    if stated.kind == "assembled":
        assert {o: s for o, s in stated.organs.items() if o in kept} == kept
    else:
        assert not any(one.source != "pseudo" for one in kept.values())


def test_without_anything_better_the_start_label_is_the_pseudo_label(work: Work) -> None:
    labels = work.label_service.folder.path / "labels"
    draft, pseudo = (labels / tag / "a.nii.gz" for tag in ("original", "pseudo"))
    assert draft.read_bytes() == pseudo.read_bytes()
    assert not draft.samefile(pseudo)  # an editor that saves in place reaches its own file only
    info = work.label_service.versions.current("a", "original")
    assert info is not None
    assert info.info["params"]["label_names"] == dict(ORGAN_IDS)
    assert info.info["model_version"] == "m0"


def test_a_submission_says_something_of_every_organ_and_is_kept_whole(work: Work) -> None:
    assert work.give(ANNA) == "a"
    drawn = slabs(liver=(1, 5), spleen=(6, 8))  # liver revised, spleen as it was, no stomach
    receipt = work.send(ANNA, drawn, client_id="anna", present=["aorta"], looked_at=["spleen"])
    assert {o: s for o, s in receipt.organs.items() if s != "not_assessed"} == {
        "liver": "revised",
        "spleen": "confirmed",
        "stomach": "absent",
    }
    one = receipt.submission
    assert (one.late, one.conflict, one.model_version, receipt.is_current) == (
        False,
        False,
        "m0",
        True,
    )
    assert one.minutes is not None
    start = work.label_service.versions.find("a", one.start_sha256 or "")
    assert start is not None
    assert one.start_sha256 == start.sha256
    assert np.array_equal(work.label("final"), drawn)
    assert np.array_equal(work.label("original"), drawn)
    assert work.label_service.ledger.sources("a")["stomach"] == OrganSource(
        "revised", "absent", None, one.id
    )
    info = work.label_service.folder.known_label("a", "final").info
    assert '"present": ["liver", "spleen"]' in info
    assert '"absent": ["stomach"]' in info
    said = read_provenance(work.label_service.folder.path / str(one.file))
    assert said is not None
    assert (said.holder, said.submission, said.start_sha256, said.model_version) == (
        ANNA.key,
        one.id,
        one.start_sha256,
        "m0",
    )
    assert said.changes == work.label_service.ledger.changes(one.id)
    in_step(work.label_service)


def test_an_organ_that_is_not_named_stays_as_the_start_label_has_it(work: Work) -> None:
    path = write_nifti(work.folder / "sent.nii.gz", slabs(liver=(1, 3)), GRID)
    receipt = work.label_service.submit("a", path, ANNA, {})  # organ ids, nothing named
    assert (receipt.organs["liver"], receipt.organs["spleen"]) == ("revised", "not_assessed")
    assert work.organ(SPLEEN, "final") == [6, 7]
    assert work.label_service.ledger.sources("a").keys() == {"liver"}
    # It goes with the networks still; what was drawn does not.
    work.label_service.keep_pseudo("a", slabs(spleen=(5, 6)), GRID, {"model_version": "m0"})
    assert (work.organ(LIVER), work.organ(SPLEEN)) == ([1, 2], [5])
    in_step(work.label_service)


def test_what_is_refused_leaves_the_label_in_force_untouched(work: Work) -> None:
    work.send(ANNA, slabs(liver=(1, 5)))
    before = (work.label_service.folder.path / "labels/final/a.nii.gz").read_bytes()
    other = Grid(SHAPE, np.diag([-2.0, 2.0, 3.5, 1.0]))
    bad = write_nifti(work.folder / "bad.nii.gz", np.ones(other.shape, np.uint8), other)
    for path, kind in (
        (bad, GridMismatchError),
        (write_nifti(work.folder / "e.nii.gz", np.zeros(SHAPE, np.uint8), GRID), EmptyVolumeError),
        (write_nifti(work.folder / "v.nii.gz", np.full(SHAPE, -1, np.int16), GRID), VolumeError),
        (write_nifti(work.folder / "f.nii.gz", np.full(SHAPE, 0.5, "f4"), GRID), VolumeError),
    ):
        with pytest.raises(kind):
            work.label_service.submit("a", path, BEN, {"label_info": INFO})
    assert (work.label_service.folder.path / "labels/final/a.nii.gz").read_bytes() == before
    assert len(work.label_service.ledger.submissions("a")) == 1
    in_step(work.label_service)


def test_the_same_file_sent_again_is_booked_once(work: Work) -> None:
    first = work.send(ANNA, slabs(liver=(1, 5)))
    again = work.send(ANNA, slabs(liver=(1, 5)))
    assert (again.again, again.submission.id) == (True, first.submission.id)
    assert len(work.label_service.ledger.submissions("a")) == 1
    # After it was handed back the same label is an answer.
    work.label_service.reviews.reopen("a", to=ANNA.key)
    assert not work.send(ANNA, slabs(liver=(1, 5))).again


def test_the_start_label_is_that_of_the_lease_not_of_the_moment(work: Work) -> None:
    work.give(ANNA)
    work.label_service.keep_pseudo("a", slabs(liver=(1, 6)), GRID, {"model_version": "m1"})
    receipt = work.send(ANNA, START, looked_at="all")  # as it was given to her
    assert receipt.organs["liver"] == "confirmed"
    assert work.organ(LIVER) == [1, 2, 3]


def test_two_people_one_case_a_disputed_liver_reopened_and_restored(work: Work) -> None:
    """Nothing is lost, the queue shows what is to be decided, the label is right throughout."""
    label_service = work.label_service
    label_service.keep_public(
        "a",
        slabs(liver=(1, 5)),
        GRID,
        {
            "liver": OrganSource("public", "present", "LiTS"),
            "spleen": OrganSource("pseudo", "unknown", "LiTS"),
        },
    )
    assert work.organ(LIVER) == [1, 2, 3, 4]
    assert label_service.ledger.sources("a")["spleen"] == OrganSource("pseudo", "unknown", "LiTS")
    in_step(label_service)
    start = work.label("original")

    # Anna is given the case; Ben draws without a lease. Anna comes first.
    assert work.give(ANNA) == "a"
    hers = start.copy()
    hers[4] = 0  # less liver than the public label
    hers[8] = SPLEEN
    first = work.send(ANNA, hers)
    assert (first.disputes, first.review, first.is_current) == (("liver",), ("dispute",), True)
    assert work.organ(LIVER) == [1, 2, 3, 4]  # public until decided
    assert work.organ(SPLEEN) == [6, 7, 8]
    assert work.organ(LIVER, "final") == [1, 2, 3]
    his = start.copy()
    his[6] = 0
    second = work.send(BEN, his)
    assert (second.submission.conflict, second.is_current) == (True, False)
    assert work.organ(SPLEEN) == [6, 7, 8]  # hers
    assert [(r.kind, r.organ, r.submission) for r in label_service.ledger.reviews("a")] == [
        ("dispute", "liver", first.submission.id),
        ("conflict", None, second.submission.id),
    ]
    in_step(label_service)

    # Rita decides: the liver as Anna has it, the case as Ben has it.
    label_service.reviews.decide_organ("a", "liver", "revised", "rita")
    assert work.organ(LIVER) == [1, 2, 3]
    assert not label_service.ledger.sources("a")["liver"].disputed
    in_step(label_service)
    label_service.reviews.decide_submission("a", second.submission.id, "rita")
    assert label_service.ledger.reviews("a") == []
    assert work.organ(SPLEEN) == [7]
    assert work.organ(LIVER) == [1, 2, 3, 4]  # Ben's, who left it as it was
    assert np.array_equal(work.label("final"), his)
    in_step(label_service)

    # Opened again it begins from what is current; then Anna's comes back.
    label_service.reviews.reopen("a", note="the spleen's tip")
    sample = label_service.ledger.next_sample(holder=ANNA, strategy="first")
    assert sample is not None
    assert (sample.volume, sample.note) == ("a", "the spleen's tip")
    third = work.send(ANNA, work.label("original"), looked_at=["spleen"])
    assert third.organs["spleen"] == "confirmed"
    assert third.submission.start_submission == second.submission.id
    assert not third.submission.conflict
    restored = label_service.reviews.restore("a", first.submission.id, RITA)
    assert np.array_equal(work.label("final"), hers)
    assert work.organ(LIVER) == [1, 2, 3]
    assert work.organ(SPLEEN) == [6, 7, 8]
    assert [one.submission.id for one in label_service.reviews.history("a")] == [
        1,
        2,
        3,
        restored.id,
    ]
    assert [one.is_current for one in label_service.reviews.history("a")] == [
        False,
        False,
        False,
        True,
    ]
    assert (
        label_service.reviews.history("a")[-1].organs
        == label_service.reviews.history("a")[0].organs
    )
    in_step(label_service)


def test_a_public_decision_holds_until_the_organ_is_changed_again(work: Work) -> None:
    label_service = work.label_service
    label_service.keep_public(
        "a", slabs(liver=(1, 5)), GRID, {"liver": OrganSource("public", "present", "LiTS")}
    )
    changed = work.label("original").copy()
    changed[4] = 0
    work.send(ANNA, changed)
    label_service.reviews.decide_organ("a", "liver", "public", "rita")
    assert work.organ(LIVER) == [1, 2, 3, 4]
    assert label_service.ledger.reviews("a") == []
    assert '"present": []' in label_service.folder.known_label("a", "final").info
    label_service.reviews.reopen("a")
    work.give(ANNA)
    changed[3] = 0
    assert work.send(ANNA, changed).disputes == ("liver",)
    with pytest.raises(ConflictError, match="nothing to choose"):
        label_service.reviews.decide_organ("a", "spleen", "public", "rita")
    in_step(label_service)


def test_a_public_label_after_a_revision_goes_before_it_and_is_disputed(work: Work) -> None:
    work.send(ANNA, slabs(liver=(2, 4), spleen=(6, 8)))
    work.label_service.keep_public(
        "a", slabs(liver=(1, 5)), GRID, {"liver": OrganSource("public", "present", "LiTS")}
    )
    assert work.organ(LIVER) == [1, 2, 3, 4]
    assert [(r.kind, r.organ) for r in work.label_service.ledger.reviews("a")] == [
        ("dispute", "liver")
    ]
    in_step(work.label_service)


def test_public_labels_of_two_datasets_are_kept_side_by_side(work: Work) -> None:
    label_service = work.label_service
    label_service.keep_public(
        "a", slabs(liver=(1, 5)), GRID, {"liver": OrganSource("public", "present", "LiTS")}
    )
    label_service.keep_public(
        "a",
        slabs(spleen=(7, 9), liver=(0, 1)),
        GRID,
        {
            "spleen": OrganSource("public", "present", "MSD09"),
            "liver": OrganSource("pseudo", "unknown", "MSD09"),
            "gall_bladder": OrganSource("public", "absent", "MSD09"),
        },
    )
    assert (work.organ(LIVER), work.organ(SPLEEN)) == ([1, 2, 3, 4], [7, 8])
    sources = label_service.ledger.sources("a")
    assert sources["liver"] == OrganSource("public", "present", "LiTS")
    assert sources["gall_bladder"] == OrganSource("public", "absent", "MSD09")
    in_step(label_service)
    other = Grid(SHAPE, np.diag([-2.0, 2.0, 4.0, 1.0]))
    with pytest.raises(GridMismatchError):
        label_service.keep_public("a", START, other, {})
    with pytest.raises(NotFoundError):
        label_service.keep_public("nothing", START, GRID, {})


def test_anonymous_people_of_one_address_are_never_taken_for_one(work: Work) -> None:
    label_service = work.label_service
    assert work.give(NOBODY) == "a"
    first = work.send(NOBODY, slabs(liver=(1, 5)))
    second = work.send(NOBODY, slabs(liver=(1, 6)))
    assert (first.submission.conflict, second.submission.conflict) == (False, True)
    assert label_service.ledger.status("a") == "conflict"
    assert work.organ(LIVER) == [1, 2, 3, 4]
    # Who says which lease it is has shown to be the same.
    sample = label_service.ledger.next_sample(holder=NOBODY, strategy="first")
    assert sample is not None
    path = write_nifti(work.folder / "sent.nii.gz", slabs(liver=(1, 5)), GRID)
    label_service.submit("b", path, NOBODY, {"label_info": INFO}, lease=sample.lease)
    path = write_nifti(work.folder / "sent.nii.gz", slabs(liver=(1, 6)), GRID)
    again = label_service.submit("b", path, NOBODY, {"label_info": INFO}, lease=sample.lease)
    assert not again.submission.conflict
    in_step(label_service)
    in_step(label_service, "b")


def test_which_of_two_leases_nobody_can_say(work: Work) -> None:
    """Minutes would be a guess; both submissions stay and the case is in conflict."""
    label_service = work.label_service
    label_service.ledger._lease_s = 0.0  # runs out at once
    assert [work.give(NOBODY), work.give(NOBODY)] == ["a", "a"]
    first = work.send(NOBODY, slabs(liver=(1, 5)))
    second = work.send(NOBODY, slabs(liver=(1, 6)))
    assert (first.submission.minutes, second.submission.minutes) == (None, None)
    assert second.submission.conflict
    assert len(label_service.reviews.history("a")) == 2


def hides(label_service: LabelService, one: Holder) -> bool:
    return label_service.ledger.hides_first("a", [one.key], reviews=False, known=True)


def test_a_second_reading_is_blind_and_no_conflict(work: Work) -> None:
    label_service = work.label_service
    label_service.double_read_percent = 100.0
    assert work.give(ANNA) == "a"
    first = work.send(ANNA, slabs(liver=(1, 5), spleen=(6, 8)))
    assert first.review == ()
    assert work.give(ANNA) == "b"  # never to the first reader
    sample = label_service.ledger.next_sample(holder=BEN, strategy="first")
    assert sample is not None
    assert (sample.volume, sample.base_submission) == ("a", None)
    shown = [one for one in (ANNA, BEN) if not hides(label_service, one)]
    assert shown == [ANNA]
    blind = label_service.first_start("a")
    assert blind is not None
    assert np.array_equal(read_label(blind.path).array, START)
    second = work.send(BEN, slabs(liver=(1, 3), spleen=(6, 8)))
    assert (second.submission.conflict, second.submission.purpose) == (False, "double_read")
    assert second.review == ()
    assert second.organs["liver"] == "revised"  # against what he was given
    assert second.submission.start_sha256 == first.submission.start_sha256
    assert work.organ(LIVER) == [1, 2, 3, 4]  # the first until decided
    assert not hides(label_service, BEN)
    ((_, one, two, organs),) = label_service.ledger.agreements("a")
    assert (one, two) == (first.submission.id, second.submission.id)
    assert organs["liver"].dsc == pytest.approx(2 * 2 / (4 + 2))
    assert (organs["spleen"].dsc, organs["stomach"].dsc) == (1.0, None)
    (asked,) = label_service.ledger.reviews("a")
    assert (asked.kind, asked.submission, asked.other) == ("double_read", two, one)
    # A correction of the first reader's is no conflict with the second.
    assert not work.send(ANNA, slabs(liver=(1, 5), spleen=(6, 9))).submission.conflict
    label_service.reviews.decide_submission("a", two, "rita")
    assert work.organ(LIVER) == [1, 2]
    assert label_service.ledger.reviews("a") == []
    in_step(label_service)


def test_two_readings_that_agree_ask_nobody(work: Work) -> None:
    work.label_service.double_read_percent = 100.0
    work.give(ANNA)
    work.send(ANNA, slabs(liver=(1, 5)))
    assert work.give(BEN) == "a"
    work.send(BEN, slabs(liver=(1, 5)))
    assert work.label_service.ledger.reviews("a") == []
    assert work.give(RITA) == "b"


def test_a_reviewer_takes_over_and_every_question_is_answered(work: Work) -> None:
    label_service = work.label_service
    label_service.keep_public(
        "a", slabs(liver=(1, 5)), GRID, {"liver": OrganSource("public", "present", "LiTS")}
    )
    hers = work.label("original").copy()
    hers[4] = 0
    work.send(ANNA, hers)
    work.send(BEN, slabs(liver=(1, 5), spleen=(6, 7)))
    sample = label_service.ledger.next_review(holder=RITA)
    assert sample is not None
    assert (sample.volume, sample.purpose) == ("a", "review")
    assert (
        label_service.ledger.next_review(holder=Holder.identify(user="roy")) is None
    )  # one at a time
    mine = work.label("original").copy()
    mine[3:5] = 0
    receipt = work.send(RITA, mine)
    assert (receipt.is_current, receipt.submission.conflict) == (True, False)
    assert label_service.ledger.reviews("a") == []
    assert work.organ(LIVER) == [1, 2]  # hers, over the public one
    assert label_service.ledger.status("a") == "submitted"
    assert {r.decision for r in label_service.ledger.reviews("a", closed=True)} == {
        f"taken over by submission {receipt.submission.id}"
    }
    in_step(label_service)


def test_returned_with_a_note_to_its_annotator(work: Work) -> None:
    label_service = work.label_service
    label_service.review_percent = 100.0
    work.give(ANNA)
    assert work.send(ANNA, slabs(liver=(1, 5))).review == ("sample",)
    with pytest.raises(RequestError, match="note"):
        label_service.reviews.give_back("a", "rita", " ")
    assert label_service.reviews.give_back("a", "rita", "the dome is missing") == ANNA.key
    assert label_service.ledger.reviews("a") == []
    assert work.give(BEN) == "b"  # not for him
    sample = label_service.ledger.next_sample(holder=ANNA, strategy="first")
    assert sample is not None
    assert (sample.volume, sample.note) == ("a", "the dome is missing")
    work.send(ANNA, slabs(liver=(1, 6)))
    (asked,) = label_service.ledger.reviews("a")
    assert asked.kind == "sample"
    assert label_service.reviews.accept("a", "rita") == []
    with pytest.raises(ConflictError, match="nothing to accept"):
        label_service.reviews.accept("a", "rita")
    with pytest.raises(ConflictError, match="not submitted"):
        label_service.reviews.reopen("b")
    in_step(label_service)


def test_what_was_changed_behind_our_back_is_not_restored(work: Work) -> None:
    first = work.send(ANNA, slabs(liver=(1, 5)))
    work.label_service.reviews.reopen("a")
    work.give(ANNA)
    work.send(ANNA, slabs(liver=(1, 6)))
    path = work.label_service.folder.path / str(first.submission.file)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ConflictError, match="changed since"):
        work.label_service.reviews.restore("a", first.submission.id, ANNA)
    path.unlink()
    with pytest.raises(NotFoundError):
        work.label_service.reviews.restore("a", first.submission.id, ANNA)
    with pytest.raises(NotFoundError):
        work.label_service.reviews.restore("b", first.submission.id, ANNA)
    assert work.organ(LIVER) == [1, 2, 3, 4, 5]


def test_labels_in_the_folder_are_adopted_with_what_they_say(work: Work) -> None:
    label_service = work.label_service
    path = label_service.folder.path / "labels" / "final" / "a.nii.gz"
    write_nifti(path, slabs(liver=(1, 5), spleen=(6, 8)), GRID)
    label_service.folder.refresh()
    assert label_service.existing.import_all() == 1
    assert label_service.existing.import_all() == 0
    label_service.reconciler.recover()
    sources = label_service.ledger.sources("a")
    assert sources["liver"].state == "revised"
    assert sources.keys() == {"liver"}  # nothing says that anybody looked at the others
    assert work.organ(LIVER) == [1, 2, 3, 4]
    assert work.organ(STOMACH) == [9]
    in_step(label_service)


def test_a_start_label_of_an_earlier_release_counts_as_the_pseudo_label(
    studies: Path, tmp_path: Path
) -> None:
    first = LabelService.open(studies)
    first.folder.store_label("a", "original", START, GRID, {"model_version": "m0"})
    work = Work(first, tmp_path)
    work.send(ANNA, slabs(liver=(1, 5), spleen=(6, 8), stomach=(9, 10)))
    assert np.array_equal(work.label("pseudo"), START)
    in_step(first)
    first.close()


@pytest.mark.parametrize("percent", [0, 10, 50, 100])
def test_the_share_is_what_was_asked_for_and_always_the_same(percent: float) -> None:
    keys = [f"double case_{i:05d}" for i in range(4000)]
    found = [chosen(key, percent) for key in keys]
    assert found == [chosen(key, percent) for key in keys]
    assert sum(found) / len(found) == pytest.approx(percent / 100, abs=0.03)


@pytest.mark.parametrize("choice", ["public", "revised"])
def test_a_ledger_made_anew_from_the_files_says_the_same(
    work: Work, choice: str, tmp_path: Path
) -> None:
    label_service = work.label_service
    label_service.keep_public(
        "a",
        slabs(liver=(1, 5)),
        GRID,
        {
            "liver": OrganSource("public", "present", "LiTS"),
            "gall_bladder": OrganSource("public", "absent", "LiTS"),
            "aorta": OrganSource("pseudo", "unknown", "LiTS"),
        },
    )
    work.give(ANNA)
    hers = work.label("original").copy()
    hers[4] = 0
    hers[9] = 0  # no stomach
    work.send(ANNA, hers)
    work.send(BEN, slabs(liver=(1, 5), spleen=(6, 7)))
    label_service.reviews.decide_organ("a", "liver", choice, "rita")
    label_service.reviews.decide_submission("a", 1, "rita")
    work.send(ANNA, slabs(liver=(1, 3)), volume="b")
    target = tmp_path / "new.sqlite"
    rebuild(target, ["a", "b"], list(labels_on_disk(label_service.folder.path)))
    made = Ledger(target)
    for volume in ("a", "b"):
        old, new = label_service.ledger.current_submission(volume), made.current_submission(volume)
        assert old is not None
        assert new is not None
        assert (new.id, new.holder, new.sha256) == (old.id, old.holder, old.sha256)
        assert made.sources(volume) == label_service.ledger.sources(volume)
        for one in label_service.ledger.submissions(volume):
            assert made.changes(one.id) == label_service.ledger.changes(one.id)
            assert made.submission(one.id).content == one.content
    made.close()


def second_reading(work: Work) -> None:
    work.label_service.double_read_percent = 100.0
    work.give(ANNA)
    work.send(ANNA, slabs(liver=(1, 5)))
    assert work.give(BEN) == "a"


def waits_for_the_second(work: Work) -> None:
    work.label_service.double_read_percent = 100.0
    work.give(ANNA)
    work.send(ANNA, slabs(liver=(1, 5)))


def both_read(work: Work) -> None:
    second_reading(work)
    work.send(BEN, slabs(liver=(1, 3)))


def first_corrects_after(work: Work) -> None:
    both_read(work)
    work.send(ANNA, slabs(liver=(1, 6)))


def first_corrects_between(work: Work) -> None:
    second_reading(work)
    work.send(ANNA, slabs(liver=(1, 6)))
    work.send(BEN, slabs(liver=(1, 3)))


def second_corrects(work: Work) -> None:
    both_read(work)
    work.send(BEN, slabs(liver=(1, 4)))


def second_is_nobody(work: Work) -> None:
    work.label_service.double_read_percent = 100.0
    work.send(ANNA, slabs(liver=(1, 5)))
    assert work.give(NOBODY) == "a"
    work.send(NOBODY, slabs(liver=(1, 3)))


def read_again_by_a_third(work: Work) -> None:
    both_read(work)
    work.label_service.reviews.reopen("a")
    assert work.give(RITA) == "a"
    work.send(RITA, slabs(liver=(1, 7)))


def conflict_taken_over(work: Work) -> None:
    work.give(ANNA)
    work.send(ANNA, slabs(liver=(1, 5)))
    work.send(BEN, slabs(liver=(1, 3)))
    work.label_service.reviews.take_over("a", RITA)
    work.send(RITA, slabs(liver=(1, 4)))


def readings_taken_over(work: Work) -> None:
    both_read(work)
    work.label_service.reviews.take_over("a", RITA)
    work.send(RITA, slabs(liver=(1, 4)))


@pytest.mark.parametrize(
    "happens",
    [
        waits_for_the_second,
        both_read,
        first_corrects_after,
        first_corrects_between,
        second_corrects,
        second_is_nobody,
        read_again_by_a_third,
        conflict_taken_over,
        readings_taken_over,
    ],
)
def test_readings_and_takeovers_come_back_from_the_files(
    work: Work, happens: Callable[[Work], None], tmp_path: Path
) -> None:
    def told(ledger: Ledger) -> dict[str, object]:
        current = ledger.current_submission("a")
        return {
            "status": ledger.status("a"),
            "current": current and current.id,
            "submissions": [
                (s.id, s.holder, s.purpose, s.conflict, s.start_submission)
                for s in ledger.submissions("a")
            ],
            "questions": [(r.kind, r.submission, r.other) for r in ledger.reviews("a")],
            "offers": [(o.volume, o.purpose, o.not_holder) for o in ledger.offers()],
            "agreement": ledger.agreements("a"),
            "reviewed": ledger.rounds()[0].reviewed,
        }

    happens(work)
    target = tmp_path / "new.sqlite"
    rebuild(target, ["a", "b"], list(labels_on_disk(work.label_service.folder.path)))
    made = Ledger(target)
    live, rebuilt = told(work.label_service.ledger), told(made)
    made.close()
    if happens is read_again_by_a_third:  # what reviewers have answered is in no file
        assert (live.pop("questions"), rebuilt.pop("questions")) == ([], [("double_read", 2, 1)])
    assert rebuilt == live


def test_changes_are_kept_beside_the_places_that_were_shown(work: Work, tmp_path: Path) -> None:
    ledger = work.label_service.ledger
    shown = [{"organ": "liver", "start": [0, 0, 0], "stop": [4, 99, 99]}]
    predicted = {"dice": 0.8, "low": 0.7, "high": 0.9, "wrong_ml": 9.0, "spread": 0.05}
    quality = {"liver": predicted, "spleen": predicted, "aorta": predicted}
    noted = {"regions": shown, "quality": quality}
    ledger.record_score("a", "m0", {"liver": OrganScore(1)}, explanation=noted)
    ledger.record_score("b", "m0", {"liver": OrganScore(1)})
    given = [ledger.next_sample(holder=ANNA, model_version="m0") for _ in range(2)]
    assert {sample.volume for sample in given if sample} == {"a", "b"}
    changed = START.copy()
    changed[START == LIVER] = 0
    voxels = int((START == LIVER).sum())
    inside = int((START[:4] == LIVER).sum())
    assert 0 < inside <= voxels
    for volume in ("a", "b"):
        work.send(ANNA, changed, volume, absent=["liver"])
    one, two = ledger.worked()
    assert one.places["liver"] == PlacesChanged(
        1, 1, pytest.approx(voxels * GRID.voxel_ml, abs=1e-3),
        pytest.approx(inside * GRID.voxel_ml, abs=1e-3),
    )  # fmt: skip
    assert two.places == {}  # nothing was shown there
    # And what was found beside what was predicted, of what was assessed and predicted.
    assert one.quality == {
        "liver": QualityFound(
            0.8, 0.05, 9.0, 0.8, 0.7, 0.9, 0, 0.0, pytest.approx(voxels * GRID.voxel_ml, abs=1e-3)
        )
    }
    assert two.quality == {}
    (seen,) = ledger.quality_seen("m0").seen
    assert (seen.volume, seen.organ) == ("a", "liver")
    target = tmp_path / "new.sqlite"  # a store made anew from the files knows it, too
    rebuild(target, ["a", "b"], list(labels_on_disk(work.label_service.folder.path)))
    made = Ledger(target)
    assert [submission.quality for submission in made.worked()] == [one.quality, {}]
    made.close()
    kept = read_provenance(work.label_service.folder.path / "labels" / "final" / "a.nii.gz")
    assert kept is not None
    assert kept.detail["places"]["liver"] == list(one.places["liver"])


def test_every_label_is_checked_and_what_is_found_is_kept_and_told(tmp_path: Path) -> None:
    patient = generate(3, grid_spacing_mm=4.0)
    grid, truth = patient.label.grid, patient.label.array
    write_nifti(tmp_path / "c.nii.gz", patient.ct.array, grid)
    label_service = LabelService.open(tmp_path)
    label_service.keep_pseudo("c", np.asfortranarray(truth), grid, {})
    table = np.arange(256, dtype=np.uint8)
    table[[3, 4]] = 4, 3  # the kidneys swapped
    sent = write_nifti(tmp_path / "labels" / "sent.nii.gz", renamed(truth, table), grid)
    receipt = label_service.submit("c", sent, ANNA, {})
    assert ("kidney_left", "mirrored") in {(one.organ, one.rule) for one in receipt.findings}
    assert said(receipt)["findings"] == [one._asdict() for one in receipt.findings]
    kept = label_service.ledger.findings("c")
    assert kept["submitted"] == list(receipt.findings)
    assert ("kidney_left", "mirrored") in {(one.organ, one.rule) for one in kept["fused"]}
    assert label_service.ledger.current_findings("c") == kept["fused"]
    write_nifti(sent, truth, grid)
    receipt = label_service.submit("c", sent, ANNA, {})
    assert "mirrored" not in {one.rule for one in receipt.findings}
    kept = label_service.ledger.findings("c")
    assert "mirrored" not in {one.rule for one in kept["fused"]}
    label_service.close()


def test_a_label_that_is_fused_as_it_was_sent_is_checked_once(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = []
    of = Body.of.__func__  # type: ignore[attr-defined]

    def counted(cls: type[Body], array: Array, *args: object, **more: object) -> Body:
        bodies.append(array.shape)
        return of(cls, array, *args, **more)  # type: ignore[no-any-return]

    monkeypatch.setattr(Body, "of", classmethod(counted))
    work.give(ANNA)
    changed = slabs(liver=(1, 5), spleen=(6, 9), stomach=(9, 11))
    rest = [name for name in ORGAN_IDS if name not in ("liver", "spleen", "stomach")]
    work.send(ANNA, changed, absent=rest)
    # What is impossible in what was sent, and all of the checks on what is kept of it.
    assert len(bodies) <= 3
