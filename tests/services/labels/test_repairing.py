"""Repairs of a draft label: proposed by rules, a revision of who accepts them, never silent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from abdomen_phantom import generate
from atlas8k.cli import app
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import read_label, write_nifti
from atlas8k.core.voxels import renamed
from atlas8k.labels.repairs import propose, repaired
from atlas8k.services.errors import ConflictError, NotFoundError, RequestError
from atlas8k.services.labels.repairing import accept, proposals
from atlas8k.services.labels.service import LabelService
from atlas8k.services.studies.folder import ORIGINAL
from atlas8k.store import Holder

ANNA, BEN = Holder.identify(user="anna"), Holder.identify(user="ben")
PATIENT = generate(3, grid_spacing_mm=4.0)
GRID = PATIENT.label.grid
TRUTH = repaired(PATIENT.label.array, propose(PATIENT.label.array, GRID))
SPLEEN = ORGAN_IDS["spleen"]


def wrong() -> np.ndarray:
    """The kidneys swapped, and a speck of spleen somewhere else."""
    table = np.arange(256, dtype=np.uint8)
    table[[3, 4]] = 4, 3
    array = renamed(TRUTH, table).copy()
    array[tuple(np.argwhere(array[5:-5, 5:-5, 5:-5] == 0)[0] + 5)] = SPLEEN
    return array


@pytest.fixture
def service(tmp_path: Path) -> Iterator[LabelService]:
    write_nifti(tmp_path / "c.nii.gz", PATIENT.ct.array, GRID)
    opened = LabelService.open(tmp_path)
    opened.ledger.register_model_version("m0")
    opened.keep_pseudo("c", np.asfortranarray(wrong()), GRID, {"model_version": "m0"})
    yield opened
    opened.close()


def draft(service: LabelService) -> np.ndarray:
    version = service.versions.current("c", ORIGINAL)
    assert version is not None
    return read_label(version.path).array


def test_proposals_change_nothing(service: LabelService) -> None:
    assert [one.rule for one in proposals(service, "c")] == ["swapped", "islands"]
    assert np.array_equal(draft(service), wrong())
    assert service.ledger.submissions("c") == []


def test_what_is_accepted_is_a_revision_and_the_case_stays_in_the_list(
    service: LabelService,
) -> None:
    receipt = accept(service, "c", [1], ANNA)
    assert receipt.is_current
    assert receipt.submission.holder == ANNA.key
    changed = {organ for organ, change in receipt.changes.items() if change.state == "revised"}
    assert changed == {"kidney_left", "kidney_right"}
    assert [one.rule for one in proposals(service, "c")] == ["islands"]
    assert service.ledger.status("c") == "open"
    assert [one.reviewed for one in service.ledger.rounds()] == [0]
    sample = service.ledger.next_sample(holder=BEN, strategy="first")
    assert sample is not None
    assert sample.volume == "c"
    service.ledger.release("c", BEN)
    accept(service, "c", [1], ANNA)
    assert np.array_equal(draft(service), TRUTH)
    assert len(service.ledger.submissions("c")) == 2  # and the way back


def test_what_cannot_be_accepted_is_refused(service: LabelService) -> None:
    for numbers in ([], [0], [3], [1, 9]):
        with pytest.raises(RequestError, match="proposals 1 to 2"):
            accept(service, "c", numbers, ANNA)
    service.ledger.next_sample(holder=BEN, strategy="first")
    with pytest.raises(ConflictError, match="in the hands of"):
        accept(service, "c", [1], ANNA)
    with pytest.raises(NotFoundError):
        proposals(service, "nobody")
    assert np.array_equal(draft(service), wrong())


def test_the_command_proposes_and_accepts(service: LabelService, tmp_path: Path) -> None:
    service.close()
    run = CliRunner().invoke
    command = ["labels", "fix", "c", "--studies", str(tmp_path)]
    told = run(app, command)
    assert told.exit_code == 0, told.output
    assert "1  exchange kidney_left and kidney_right" in told.output
    found = json.loads(run(app, [*command, "--json"]).output)
    assert [one["rule"] for one in found["proposals"]] == ["swapped", "islands"]
    assert (found["accepted"], found["submission"]) == ([], None)
    done = json.loads(
        run(app, [*command, "--accept", "1", "--accept", "2", "--as", "anna", "--json"]).output
    )
    assert (done["accepted"], done["in_force"]) == ([1, 2], True)
    assert "no rule proposes" in run(app, command).output
