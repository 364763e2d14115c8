"""Series of an archive as a dataset, and compared with each other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.services.exporting.kit import files, manifest

from atlas8k.cli.export import check_archive_export
from atlas8k.core.errors import SettingsError
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import read_ct
from atlas8k.formats.dicom import read_volume
from atlas8k.services.archive.folder import ArchiveFolder
from atlas8k.services.duplicates import (
    Summary,
    find_duplicates,
    not_compared,
    summary,
    take_fingerprints,
)
from atlas8k.services.exporting.export import ExportSettings, export
from atlas8k.services.exporting.frozen import again, freeze
from atlas8k.services.exporting.selection import select
from atlas8k.services.labels.service import LabelService


def test_series_of_an_archive(
    working: Callable[..., ArchiveFolder],
    tmp_path: Path,
):
    """New names, new UIDs: nothing leads to the archive's own."""
    folder = working()
    folder.refresh()
    uids = folder.now().ids()
    assert len(uids) == 2
    service = LabelService(folder)
    service.ledger.register_model_version("m0")
    arrays = {}
    for uid in uids:
        ct = read_ct(folder.image_path(uid))
        array = np.zeros(ct.grid.shape, np.uint8)
        array[1:4, 1:4, 1:3] = ORGAN_IDS["liver"]
        service.keep_pseudo(uid, array, ct.grid, {"model_version": "m0"})
        arrays[uid] = array, ct
    settings = ExportSettings(layout="dicom", require="any", cts="copy", rename="AA_")
    out = export(folder, tmp_path / "out", settings, select(folder, "any", rename="AA_")).out
    said = manifest(out)["volumes"]
    assert list(said) == ["AA_00000001", "AA_00000002"]
    text = b"".join(files(out).values())
    study = folder.row(uids[0]).study
    assert not any(uid.encode() in text for uid in (*uids, study))
    voxels = sorted(float(ct.array.sum()) for _, ct in arrays.values())
    found = sorted(float(read_volume(out / name / "ct").array.sum()) for name in said)
    assert found == pytest.approx(voxels)
    for layout in ("abdomenatlas", "nnunet", "flat"):
        settings = ExportSettings(
            layout=layout, require="any", cts="copy", rename="AA_", organs=("liver",)
        )
        chosen = select(folder, "any", ("liver",), rename="AA_")
        out = export(folder, tmp_path / layout, settings, chosen).out
        assert len(manifest(out)["volumes"]) == 2
        assert json.loads((out / "manifest.json").read_text())["atlas8k_export"]["volumes"] == 2


@pytest.mark.parametrize("layout", ["dicom", "abdomenatlas"])
def test_a_frozen_export_of_an_archive_is_made_again(
    working: Callable[..., ArchiveFolder], tmp_path: Path, layout: str
):
    """CTs are fetched again, and come out with the same bytes."""
    folder = working()
    folder.refresh()
    service = LabelService(folder)
    service.ledger.register_model_version("m0")
    for uid in folder.now().ids():
        ct = read_ct(folder.image_path(uid))
        array = np.zeros(ct.grid.shape, np.uint8)
        array[1:4, 1:4, 1:3] = ORGAN_IDS["liver"]
        service.keep_pseudo(uid, array, ct.grid, {"model_version": "m0"})
    settings = ExportSettings(layout=layout, require="any", cts="copy", rename="AA_")
    kept = freeze(folder, tmp_path)
    chosen = select(folder, "any", rename="AA_")
    first = export(folder, tmp_path / "first", settings, chosen, frozen=kept).out
    for uid in folder.now().ids():  # what is predicted anew is another label
        ct = read_ct(folder.image_path(uid))
        array = np.zeros(ct.grid.shape, np.uint8)
        array[2:5, 1:4, 1:3] = ORGAN_IDS["spleen"]
        service.keep_pseudo(uid, array, ct.grid, {"model_version": "m0"})
    settings, chosen, kept = again(folder, first)
    second = export(folder, tmp_path / "second", settings, chosen, frozen=kept).out
    assert files(second) == files(first)


def test_an_archive_is_exported_under_new_names_alone():
    url = "http://localhost:8042/dicom-web"
    with pytest.raises(SettingsError, match="give --rename"):
        check_archive_export(url, "none", "", None)
    with pytest.raises(SettingsError, match="nothing to link"):
        check_archive_export(url, "link", "AA_", None)
    check_archive_export(url, "copy", "AA_", None)


def test_series_of_an_archive_are_compared_when_asked(working: Callable[..., ArchiveFolder]):
    folder = working()
    folder.refresh()
    assert sorted(take_fingerprints(folder)) == folder.now().ids()
    # One tiny body in two scans, as the archive's fixture draws them.
    (pair,) = find_duplicates(folder)
    assert {pair.first, pair.second} == {*folder.now().ids()}
    assert pair.kind == "same_patient"
    assert summary(folder) == Summary(1, 2, 2)
    assert not_compared(folder) == {}
    assert take_fingerprints(folder) == []
