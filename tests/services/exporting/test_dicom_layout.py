"""A dataset as DICOM: SEG objects of new CT series, with nothing of the headers there were."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import SegmentationStorage
from tests.services.exporting.kit import Campaign, columns, files, manifest, mixed

from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import read_ct, read_label
from atlas8k.formats.dicom import read_volume
from atlas8k.services.exporting.export import ExportError, ExportSettings, export
from atlas8k.services.exporting.frozen import again, freeze
from atlas8k.services.exporting.selection import Wanted, select
from atlas8k.store import OrganSource, VolumeEntry


@pytest.fixture
def campaign(tmp_path: Path) -> Iterator[Campaign]:
    made = mixed(tmp_path)
    yield made
    made.service.close()


def test_a_segment_for_each_organ_with_voxels(campaign: Campaign):
    out = campaign.export(layout="dicom", require="any", cts="copy").out
    said = manifest(out)["volumes"]
    assert list(said) == ["new", "part", "seen", "whole"]
    for name, record in said.items():
        seg = pydicom.dcmread(out / name / "segmentation.dcm")
        assert seg.SOPClassUID == SegmentationStorage
        ct = [pydicom.dcmread(path) for path in sorted((out / name / "ct").iterdir())]
        assert len(ct) == record["ct"]["slices"] == 9
        assert {str(one.SeriesInstanceUID) for one in ct} == {record["ct"]["series"]}
        (series,) = seg.ReferencedSeriesSequence
        assert series.SeriesInstanceUID == ct[0].SeriesInstanceUID
        referenced = {one.ReferencedSOPInstanceUID for one in series.ReferencedInstanceSequence}
        assert referenced == {one.SOPInstanceUID for one in ct}
        assert {one.StudyInstanceUID for one in (seg, *ct)} == {seg.StudyInstanceUID}
        numbers = {one.SegmentLabel: one.SegmentNumber for one in seg.SegmentSequence}
        there = {organ: one for organ, one in record["organs"].items() if one["ml"]}
        assert numbers == {organ: one["value"] for organ, one in there.items()}
        for organ, one in record["organs"].items():  # absent: in the manifest alone
            assert (one.get("file") == f"{name}/segmentation.dcm") == (organ in there)
        # By frames alone, without this project's reader.
        label = read_label(campaign.studies / f"labels/original/{name}.nii.gz")
        sums = dict.fromkeys(numbers.values(), 0)
        for frame, group in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
            number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            sums[number] += int(frame.sum())
        assert sums == {
            number: int((label.array == ORGAN_IDS[organ]).sum())
            for organ, number in numbers.items()
        }
        volume = read_volume(out / name / "ct")
        own = read_ct(campaign.studies / f"{name}.nii.gz")
        assert sorted(volume.array.ravel()) == sorted(own.array.ravel())
        assert volume.grid.voxel_ml == pytest.approx(own.grid.voxel_ml, rel=1e-6)


def test_the_confidentiality_profile_is_named_and_kept(campaign: Campaign):
    out = campaign.export(layout="dicom", require="any", cts="copy").out
    for path in out.rglob("*.dcm"):
        header = pydicom.dcmread(path)
        name = path.relative_to(out).parts[0]
        assert header.PatientIdentityRemoved == "YES"
        (code,) = header.DeidentificationMethodCodeSequence
        assert (code.CodeValue, code.CodingSchemeDesignator) == ("113100", "DCM")
        assert header.PatientName == header.PatientID == name
        times = {
            one.keyword: str(one.value)
            for one in header.iterall()
            if one.VR in ("DA", "TM", "DT") and one.value
        }
        assert times == {"ContentDate": "19000101", "ContentTime": "000000"}
        assert not {"InstitutionName", "OtherPatientIDs", "PatientAge"} & set(header.dir())
        assert not any(one.tag.is_private for one in header.iterall())
    assert str(campaign.studies).encode() not in b"".join(files(out).values())


def test_made_again_and_gone_on_with_it_is_the_same_bytes(campaign: Campaign):
    folder, first = campaign.service.folder, campaign.folder / "first"
    settings = ExportSettings(layout="dicom", require="any", cts="copy")
    kept = freeze(folder, campaign.folder)
    export(folder, first, settings, select(folder, "any"), frozen=kept)

    def stop(items: Iterable[object]) -> Iterator[object]:
        done = 0
        for one in items:
            if done == 2:
                raise KeyboardInterrupt
            done += isinstance(one, Wanted)
            yield one

    settings, chosen, kept = again(folder, first)
    second = campaign.folder / "second"
    with pytest.raises(KeyboardInterrupt):
        export(folder, second, settings, chosen, frozen=kept, progress=stop)
    work = second.with_name("second.unfinished")
    (work / "new/ct/0003.dcm").unlink()  # it was being written
    settings, chosen, kept = again(folder, first)
    done = export(folder, second, settings, chosen, frozen=kept)
    assert done.kept == 1
    assert files(second) == files(first)


def test_what_cannot_be_dicom_is_left_out_in_words(campaign: Campaign):
    for cts in ("none", "link"):
        with pytest.raises(ExportError, match="refers to a CT series: give --cts copy"):
            campaign.export("refused", layout="dicom", cts=cts)
    service = campaign.service
    service.ledger.add_volumes([VolumeEntry("new", "JHH")])
    grid = read_label(campaign.studies / "labels/original/part.nii.gz").grid
    nothing = {organ: OrganSource("public", "absent", "BTCV") for organ in ("liver", "spleen")}
    service.keep_public("part", columns(), grid, nothing)
    done = campaign.export(layout="dicom", require="confirmed", cts="copy")
    left = {one[0]: one[2] for one in manifest(done.out)["left_out"] if not one[1]}
    assert "DICOM SEG cannot say so" in left["part"]
    done = campaign.export("any", layout="dicom", require="any", cts="copy")
    left = {one[0]: one[2] for one in manifest(done.out)["left_out"] if not one[1]}
    assert "may not be passed on as a DICOM series" in left["new"]
    assert not (done.out / "new").exists()
