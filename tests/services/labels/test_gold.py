"""Known labels: what is refused, measured once, shown while it is measured, and rebuilt."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from atlas8k.core.errors import SettingsError
from atlas8k.core.files import read_json
from atlas8k.core.settings import Settings
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import Grid, read_comments, write_nifti
from atlas8k.services.cases import Cases
from atlas8k.services.gold import KEPT, GoldCases, GoldTable, open_gold
from atlas8k.services.labels.drafts import PSEUDO
from atlas8k.services.labels.service import LabelService
from atlas8k.services.opening import open_context
from atlas8k.services.rebuild import rebuild_ledger
from atlas8k.store import Holder, OrganSource, Seen

GRID = Grid((6, 5, 4), np.diag([-2.0, 2.0, 3.0, 1.0]))
ANNA, BEN = Holder.identify(user="anna"), Holder.identify(user="ben")
LIVER = ORGAN_IDS["liver"]


def array(*slabs: int) -> np.ndarray:
    found = np.zeros(GRID.shape, np.uint8)
    found[list(slabs)] = LIVER
    return found


def label(folder: Path, *slabs: int) -> Path:
    return write_nifti(folder / "label.nii.gz", array(*slabs), GRID)


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    folder = tmp_path / "studies"
    folder.mkdir()
    ct = np.arange(np.prod(GRID.shape), dtype=np.int16).reshape(GRID.shape)
    for name in ("case", "other"):
        write_nifti(folder / f"{name}.nii.gz", ct, GRID)
    return folder


@pytest.fixture
def service(studies: Path) -> Iterator[LabelService]:
    """Two cases with a predicted liver, of one of which the label is known."""
    made = LabelService.open(studies)
    for name in ("case", "other"):
        made.keep_pseudo(name, array(1), GRID, {})
    yield made
    made.close()


@pytest.fixture
def known(tmp_path: Path) -> Path:
    folder = tmp_path / "known"
    folder.mkdir()
    label(tmp_path, 1, 2).rename(folder / "case.nii.gz")
    return folder


def read(service: LabelService, folder: Path, holder: Holder, *slabs: int) -> int:
    purpose = "gold" if service.ledger.current_submission("case") else "revise"
    assert service.ledger.lease("case", holder, purpose=purpose)
    said = {"looked_at": "all"}
    return service.submit("case", label(folder, *slabs), holder, said).submission.id


def waited(cases: GoldCases) -> GoldTable:
    end = time.monotonic() + 30
    while (table := cases.table(names=True)).waiting:
        assert time.monotonic() < end
        time.sleep(0.02)
    return table


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "no such folder"),
        (lambda path: path.write_text(""), "no such folder"),
        (lambda path: path.mkdir(), "holds no label NAME.nii.gz"),
        (lambda path: (path.mkdir(), label(path, 1).rename(path / "no.nii.gz")), "holds no label"),
    ],
)
def test_a_folder_that_cannot_be_used(
    service: LabelService, tmp_path: Path, make: object, words: str
) -> None:
    make(tmp_path / "odd")  # type: ignore[operator]
    with pytest.raises(SettingsError, match=words):
        open_gold(service, tmp_path / "odd", signed_in=True)
    assert service.ledger.gold() == frozenset()


def test_a_folder_within_the_studies_or_without_sign_in(
    service: LabelService, studies: Path, known: Path
) -> None:
    with pytest.raises(SettingsError, match="turn sign-in on"):
        open_gold(service, known, signed_in=False)
    known.rename(studies / "known")
    with pytest.raises(SettingsError, match="within the studies folder"):
        open_gold(service, studies / "known", signed_in=True)


def test_a_server_alone_says_which_they_are(
    service: LabelService, studies: Path, known: Path
) -> None:
    """A command runs beside it, with the server's settings or with others."""

    def opened(gold: Path | None, **server: bool) -> frozenset[str]:
        settings = Settings(device="cpu", networks=False, gold=gold)
        open_context(settings, str(studies), studies.parent / "model", **server).close()
        return service.ledger.gold()

    assert opened(known, signed_in=True) == {"case"}
    assert opened(None) == {"case"}
    assert opened(known) == {"case"}
    assert opened(None, signed_in=True) == frozenset()


def test_every_reading_is_measured_once(
    service: LabelService, known: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = open_gold(service, known, signed_in=True)
    assert service.ledger.gold() == {"case"}
    assert cases.table(names=True) == ((), 0, False, {})
    read(service, tmp_path, ANNA, 1)
    read(service, tmp_path, BEN, 1, 2)
    first = cases.table(names=True)
    assert (first.waiting, first.running) == (2, True)
    table = waited(cases)
    assert [(one.annotator, one.readings) for one in table.readers] == [("anna", 1), ("ben", 1)]
    assert table.readers[0].dsc == pytest.approx(2 / 3)
    assert table.readers[1][2:4] == (1.0, 1.0)
    # Another server, or the command, takes what is kept; the known label is not read again.
    before = read_json(service.ledger.path.parent / KEPT)
    assert len(before) == 2
    monkeypatch.setattr("atlas8k.services.gold.compare", None)
    again = GoldCases(service, known, service.ledger.path.parent / KEPT)
    assert again.measured(names=True) == table.readers
    cases.close()


def test_another_known_label_is_measured_anew(
    service: LabelService, known: Path, tmp_path: Path
) -> None:
    read(service, tmp_path, ANNA, 1)
    assert waited(open_gold(service, known, signed_in=True)).readers[0].dsc != 1
    label(tmp_path, 1).rename(known / "case.nii.gz")
    assert waited(open_gold(service, known, signed_in=True)).readers[0].dsc == 1


def test_a_known_label_that_cannot_be_read_is_named(
    service: LabelService, known: Path, tmp_path: Path
) -> None:
    (known / "case.nii.gz").write_bytes(b"no label")
    cases = open_gold(service, known, signed_in=True)
    read(service, tmp_path, ANNA, 1)
    table = waited(cases)
    assert table.readers == ()
    assert list(table.failed) == ["case"]
    assert str(tmp_path) not in table.failed["case"]
    label(tmp_path, 1).rename(known / "case.nii.gz")
    table = waited(cases)
    assert (len(table.readers), table.failed) == (1, {})


def test_a_later_reader_begins_as_the_first_and_changes_nothing(
    service: LabelService, tmp_path: Path
) -> None:
    service.ledger.set_gold(["case"])
    first = read(service, tmp_path, ANNA, 1, 2)
    draft = service.versions.current("case", "original")
    lease = service.ledger.lease("case", BEN, purpose="gold")
    assert lease is not None
    begun = service.start_label("case", BEN, lease.id)
    assert begun is not None
    assert begun.sha256 == service.versions.current("case", PSEUDO).sha256  # type: ignore[union-attr]
    receipt = service.submit("case", label(tmp_path, 1, 2, 3), BEN)
    assert (receipt.is_current, receipt.review, receipt.disputes) == (True, (), ())
    assert receipt.changes["liver"].voxels_before == 20
    assert service.versions.current("case", "original") == draft
    then = service.versions.at("case", "original", time.time())
    assert then is not None
    assert then.sha256 == draft.sha256  # type: ignore[union-attr]
    assert service.ledger.current_submission("case").id == first  # type: ignore[union-attr]
    # He sees what would follow from it.
    seen = service.ledger.gold_seen(BEN.key)["case"]
    assert seen == Seen(BEN.key, receipt.submission.id, False)
    fused, final = (service.seen_label("case", seen, tag) for tag in ("original", "final"))
    assert fused is not None
    assert final is not None
    assert fused.info["submission"] == final.info["submission"] == receipt.submission.id
    assert final.info["present"] == ["liver"]
    assert [one.submission.purpose for one in service.reviews.history("case", seen)] == ["revise"]
    # And goes on from that, should he open it again.
    again = service.ledger.lease("case", BEN, purpose="gold")
    assert again is not None
    assert service.start_label("case", BEN, again.id).sha256 == fused.sha256  # type: ignore[union-attr]
    assert service.ledger.submission_context("case", BEN).base == receipt.submission.id


def test_a_public_organ_that_it_changes_is_told_as_of_any_other(
    service: LabelService, tmp_path: Path
) -> None:
    """And nobody is asked."""
    service.ledger.set_gold(["case"])
    public = {"liver": OrganSource("public", "present", "LiTS")}
    for name in ("case", "other"):
        service.keep_public(name, array(1), GRID, public)
    read(service, tmp_path, ANNA, 1)
    assert service.ledger.lease("case", BEN, purpose="gold")
    gold = service.submit("case", label(tmp_path, 1, 2), BEN)
    usual = service.submit("other", label(tmp_path, 1, 2), BEN)
    assert (gold.disputes, gold.review) == (("liver",), ("dispute",))
    assert (usual.disputes, usual.review) == (gold.disputes, gold.review)
    assert [one.volume for one in service.ledger.reviews()] == ["other"]


def test_what_is_said_to_its_reader_is_shown_to_no_other(
    service: LabelService, studies: Path, tmp_path: Path
) -> None:
    """Nor the reader's label, where there was none to begin with."""
    service.ledger.set_gold(["case", "bare"])
    ct = (studies / "case.nii.gz").read_bytes()
    (studies / "bare.nii.gz").write_bytes(ct)
    settings = Settings(device="cpu", networks=False)
    with closing(open_context(settings, str(studies), tmp_path / "model")) as context:
        context.sync()
        read(service, tmp_path, ANNA, 1, 2)
        service.reviews.give_back("case", "ruth", "the liver is too large")
        said = {"looked_at": "all"}
        context.label_service.submit("bare", label(tmp_path, 1, 2), ANNA, said)

        def cases(holder: Holder) -> Cases:
            return Cases(context, [holder], seen=context.ledger.gold_seen(holder.key))

        assert cases(ANNA).look("case").note == "the liver is too large"
        assert cases(BEN).look("case").note == ""
        assert cases(ANNA).begins_with("bare") is not None
        assert cases(BEN).begins_with("bare") is None
        assert cases(BEN).look("bare").organs == ()


def test_who_corrects_what_another_drew_has_not_read_it(
    service: LabelService, known: Path, tmp_path: Path
) -> None:
    cases = open_gold(service, known, signed_in=True)
    read(service, tmp_path, ANNA, 1)
    service.reviews.give_back("case", "ruth", "the liver", to_anybody=True)
    assert service.ledger.lease("case", BEN)
    said = {"looked_at": "all"}
    made = service.submit("case", label(tmp_path, 1, 2), BEN, said).submission
    assert service.ledger.current_submission("case") == made
    assert [one.annotator for one in waited(cases).readers] == ["anna"]


@pytest.mark.parametrize("told", [True, False])
def test_a_ledger_that_is_made_anew(
    service: LabelService, studies: Path, tmp_path: Path, *, told: bool
) -> None:
    """Files do not say which readings were of gold cases: their readers can read them."""
    service.ledger.set_gold(["case"])
    first = read(service, tmp_path, ANNA, 1, 2)
    read(service, tmp_path, BEN, 1, 3)
    read(service, tmp_path, BEN, 1, 3, 4)
    path = service.ledger.path
    service.close()
    for kept in (studies / "labels").rglob("*.nii.gz"):
        assert "gold" not in " ".join(read_comments(kept))
    report, _ = rebuild_ledger(studies, path, gold=["case"] if told else [])
    assert report.gold == ["case"] * told
    with LabelService.open(studies).ledger.read() as tx:
        found = tx.run("SELECT purpose, conflict FROM submission ORDER BY id").fetchall()
        current = tx.value("SELECT current_submission FROM volume WHERE name = 'case'")
        asked = tx.value("SELECT count(*) FROM review")
    assert current == first
    if told:
        assert found == [("revise", 0), ("gold", 0), ("gold", 0)]
        assert not asked
    else:
        assert found[1] == ("revise", 1)
        assert asked
