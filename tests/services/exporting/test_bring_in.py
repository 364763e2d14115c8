"""What is exported comes back: label voxel for voxel, provenance organ for organ."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.services.exporting.kit import ANNA, BEN, GRID, Campaign, columns, files, manifest, mixed

from atlas8k.core.errors import UnreadableVolumeError
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.core.volume import read_label
from atlas8k.core.voxels import only
from atlas8k.services.errors import ConflictError
from atlas8k.services.exporting.bring_in import bring_in, is_export, records
from atlas8k.store import VolumeEntry, phases


def sources(campaign: Campaign, volume: str) -> dict[str, tuple[str, str, str | None]]:
    return {o: one[:3] for o, one in campaign.service.ledger.sources(volume).items()}


def empty_copy(campaign: Campaign, folder: Path) -> Campaign:
    folder.mkdir()
    other = Campaign.begun(folder)
    for path in campaign.studies.glob("*.nii.gz"):
        shutil.copy2(path, other.studies)
    other.service.folder.refresh()
    return other


@pytest.mark.parametrize("layout", ["abdomenatlas", "nnunet", "flat", "dicom"])
@pytest.mark.parametrize("require", ["confirmed", "any"])
def test_there_and_back(tmp_path: Path, layout: str, require: str):
    (tmp_path / "first").mkdir()
    first = mixed(tmp_path / "first")
    mask = columns("aorta", start=5)[..., ::-1]
    if layout not in ("flat", "dicom"):
        first.service.folder.store_label(
            "part", "public-unknown", (mask > 0) * np.uint8(1), GRID, {}
        )
    cts = "copy" if layout == "dicom" else "none"
    out = first.export(layout=layout, require=require, cts=cts).out
    assert is_export(out)
    second = empty_copy(first, tmp_path / "second")
    for record in records(out):
        assert bring_in(second.service, record["name"], out, record, "Atlas8k")
        assert not bring_in(second.service, record["name"], out, record, "Atlas8k")
    for name, record in manifest(out)["volumes"].items():
        before, after = sources(first, name), sources(second, name)
        pseudo = ("pseudo", "unknown", None)
        for organ in record["organs"]:
            assert after.get(organ, pseudo)[:2] == before.get(organ, pseudo)[:2], (name, organ)
            if before.get(organ, pseudo)[0] == "public":
                assert after[organ][2] == "BTCV"
        ids = [ORGAN_IDS[organ] for organ in record["organs"]]
        labels = [
            only(read_label(c.studies / f"labels/original/{name}.nii.gz").array, ids)
            for c in (first, second)
        ]
        assert np.array_equal(*labels)
    # Exported again, the labels are the same files.
    again = second.export("again", layout=layout, require=require, cts=cts).out
    own = {n: data for n, data in files(out).items() if n.endswith((".gz", ".dcm", "dataset.json"))}
    assert own
    assert {n: data for n, data in files(again).items() if n in own} == own
    first.service.close()
    second.service.close()


def test_a_prediction_counts_for_no_more_than_it_did(tmp_path: Path):
    (tmp_path / "first").mkdir()
    first = mixed(tmp_path / "first")
    out = first.export(require="any").out
    second = empty_copy(first, tmp_path / "second")
    for record in records(out):
        bring_in(second.service, record["name"], out, record, "Atlas8k")
    assert second.service.ledger.status("new") == "open"
    assert second.service.ledger.status("whole") == "submitted"
    assert second.service.ledger.sources("new") == {}
    one = second.service.ledger.current_submission("whole")
    assert one is not None
    assert (one.holder, one.purpose) == ("Atlas8k: annotator 1", "adopted")
    first.service.close()
    second.service.close()


def test_each_annotator_and_what_was_said_of_the_phase(tmp_path: Path):
    (tmp_path / "first").mkdir()
    first = mixed(tmp_path / "first")
    ledger = first.service.ledger
    array = read_label(first.studies / "labels/original/whole.nii.gz").array.copy()
    array[ORGAN_IDS["pancreas"], 0] = ORGAN_IDS["pancreas"]
    first.service.ledger.reopen("whole")
    first.service.ledger.lease("whole", BEN)
    first.submit("whole", array, BEN)
    with ledger.write() as tx:
        phases.say(tx, "whole", "arterial", BEN)
        phases.say(tx, "part", "delayed", BEN)
    out = first.export().out
    whole = manifest(out)["volumes"]["whole"]
    assert whole["organs"]["pancreas"]["annotator"] == 2
    assert whole["organs"]["aorta"]["annotator"] == 1
    second = empty_copy(first, tmp_path / "second")
    second.service.ledger.add_volumes([VolumeEntry("part")])
    with second.service.ledger.write() as tx:
        phases.say(tx, "part", "non-contrast", ANNA)  # said here: it stays
    for record in records(out):
        assert bring_in(second.service, record["name"], out, record, "Atlas8k")
        assert not bring_in(second.service, record["name"], out, record, "Atlas8k")
    by = {one.id: one.holder for one in second.service.ledger.submissions("whole")}
    assert sorted(by.values()) == ["Atlas8k: annotator 1", "Atlas8k: annotator 2"]
    for organ, source in second.service.ledger.sources("whole").items():
        if source.source == "revised":
            number = whole["organs"][organ]["annotator"]
            assert by[source.submission] == f"Atlas8k: annotator {number}", organ
    assert sources(second, "whole") == sources(first, "whole")
    assert second.service.ledger.status("whole") == "submitted"
    labels = [read_label(c.studies / "labels/original/whole.nii.gz").array for c in (first, second)]
    assert np.array_equal(*labels)
    with second.service.ledger.read() as tx:
        assert phases.of_volumes(tx) == {
            "whole": ("arterial", True),
            "part": ("non-contrast", True),
        }
    first.service.close()
    second.service.close()


def test_killed_between_two_annotators_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "first").mkdir()
    first = mixed(tmp_path / "first")
    array = read_label(first.studies / "labels/original/whole.nii.gz").array.copy()
    array[ORGAN_IDS["pancreas"], 0] = ORGAN_IDS["pancreas"]
    first.service.ledger.reopen("whole")
    first.service.ledger.lease("whole", BEN)
    first.submit("whole", array, BEN)
    out = first.export().out
    second = empty_copy(first, tmp_path / "second")
    (whole,) = [one for one in records(out) if one["name"] == "whole"]
    adopt, done = second.service.adopt, []

    def once(*what: Any) -> Any:
        if done:
            raise KeyboardInterrupt
        done.append(adopt(*what))
        return done[-1]

    monkeypatch.setattr(second.service, "adopt", once)
    with pytest.raises(KeyboardInterrupt):
        bring_in(second.service, "whole", out, whole, "Atlas8k")
    monkeypatch.setattr(second.service, "adopt", adopt)
    assert bring_in(second.service, "whole", out, whole, "Atlas8k")
    assert not bring_in(second.service, "whole", out, whole, "Atlas8k")
    assert sources(second, "whole") == sources(first, "whole")
    first.service.close()
    second.service.close()


def test_what_is_not_as_the_manifest_says_is_refused(tmp_path: Path):
    (tmp_path / "first").mkdir()
    first = mixed(tmp_path / "first")
    out = first.export().out
    second = empty_copy(first, tmp_path / "second")
    (part, whole) = records(out)
    (out / "part/segmentations/liver.nii.gz").write_bytes(b"other")
    with pytest.raises(UnreadableVolumeError, match="its hash is another"):
        bring_in(second.service, "part", out, part, "Atlas8k")
    elsewhere = copy.deepcopy(whole)
    elsewhere["organs"]["liver"]["file"] = "../studies/whole.nii.gz"
    with pytest.raises(UnreadableVolumeError, match="elsewhere"):
        bring_in(second.service, "whole", out, elsewhere, "Atlas8k")
    second.submit("whole", columns(*ORGAN_NAMES), BEN)
    with pytest.raises(ConflictError, match="somebody has submitted"):
        bring_in(second.service, "whole", out, whole, "Atlas8k")
    first.service.close()
    second.service.close()
