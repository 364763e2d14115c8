"""What is exported, what is left out and why, and that a target is there whole or not at all."""

from __future__ import annotations

import csv
import itertools
import json
import os
import resource
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from tests import apart
from tests.services.exporting.kit import (
    ANNA,
    BEN,
    GRID,
    Campaign,
    columns,
    files,
    manifest,
    mixed,
    write_ct,
)

from atlas8k.core.files import sha256_of
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.core.volume import Grid, read_grid, read_label, write_nifti
from atlas8k.services.exporting.export import ExportError, ExportSettings, export
from atlas8k.services.exporting.frozen import again, freeze
from atlas8k.services.exporting.selection import name_fault, select
from atlas8k.store import OrganSource, VolumeEntry


@pytest.fixture
def campaign(tmp_path: Path) -> Iterator[Campaign]:
    made = mixed(tmp_path)
    yield made
    made.service.close()


def left_out(out: Path) -> dict[tuple[str, str], str]:
    with open(out / "left_out.csv", newline="") as stream:
        return {(one["volume"], one["organ"]): one["reason"] for one in csv.DictReader(stream)}


def test_one_file_an_organ_that_is_known(campaign: Campaign):
    out = campaign.export().out
    said = manifest(out)
    assert list(said["volumes"]) == ["part", "whole"]
    organs = said["volumes"]["whole"]["organs"]
    assert {organ: (one["source"], one["state"]) for organ, one in organs.items()} == {
        **dict.fromkeys(ORGAN_NAMES, ("revised", "confirmed")),
        "stomach": ("revised", "revised"),
        "gall_bladder": ("revised", "absent"),
        "liver": ("public", "present"),
        "spleen": ("public", "absent"),
    }
    current = read_label(campaign.studies / "labels/original/whole.nii.gz")
    for organ in ORGAN_NAMES:
        mask = read_label(out / f"whole/segmentations/{organ}.nii.gz")
        assert mask.grid.same_as(GRID)
        assert np.array_equal(mask.array, current.array == ORGAN_IDS[organ])
    # Absent: a file without a voxel. Of `part` only the liver is known: no other file, and no map.
    assert not read_label(out / "whole/segmentations/spleen.nii.gz").array.any()
    whole = read_label(out / "whole/combined_labels.nii.gz")
    assert np.array_equal(whole.array, current.array)
    assert sorted(p.name for p in (out / "part").rglob("*.gz")) == ["liver.nii.gz"]
    assert left_out(out)["part", "aorta"] == "predicted, and not assessed by anybody"
    assert "no organ passes" in left_out(out)["new", ""]


def test_provenance_of_each_organ(campaign: Campaign):
    out = campaign.export(require="any").out
    said = manifest(out)["volumes"]["whole"]
    assert said["organs"]["stomach"]["annotator"] == 1
    assert said["organs"]["stomach"]["round"] == 1
    assert said["organs"]["liver"]["dataset"] == "BTCV"
    assert manifest(out)["volumes"]["new"]["organs"]["aorta"]["model"] == "m0"
    assert said["ct"]["sha256"] == sha256_of(campaign.studies / "whole.nii.gz")
    for name, sha256 in said["files"].items():
        assert sha256_of(out / name) == sha256
    table = pd.read_csv(out / "manifest.csv")
    row = table[(table["volume"] == "whole") & (table["organ"] == "stomach")].iloc[0]
    assert (row["source"], row["state"], row["file"]) == (
        *("revised", "revised"),
        "whole/segmentations/stomach.nii.gz",
    )
    # Nobody's name is in it, nor where it came from.
    text = b"".join(files(out).values())
    assert b"anna" not in text
    assert str(campaign.studies).encode() not in text


@pytest.mark.parametrize(
    ("require", "volumes"),
    [("confirmed", ["part", "whole"]), ("reviewed", ["part", "seen", "whole"]),
     ("any", ["new", "part", "seen", "whole"])],
)  # fmt: skip
def test_bars(campaign: Campaign, require: str, volumes: list[str]):
    out = campaign.export(require=require).out
    assert list(manifest(out)["volumes"]) == volumes
    # Whatever the bar: a predicted organ without a voxel is unknown, not absent.
    for name in set(volumes) & {"seen", "new"}:
        assert "gall_bladder" not in manifest(out)["volumes"][name]["organs"]
        assert not list(out.rglob(f"{name}/**/gall_bladder*"))
        assert "unknown" in left_out(out)[name, "gall_bladder"]


def test_sets_of_nnunet_name_what_is_known(campaign: Campaign):
    out = campaign.export(layout="nnunet", require="any", cts="copy").out
    by_set = {path.parent.name: json.loads(path.read_text()) for path in out.rglob("dataset.json")}
    assert sorted(by_set) == ["Dataset400_Atlas8k", "Dataset402_Atlas8k_without_2"]
    every = by_set["Dataset400_Atlas8k"]
    assert every["labels"] == {"background": 0, **ORGAN_IDS}
    assert every["numTraining"] == 1
    part = by_set["Dataset402_Atlas8k_without_2"]["labels"]
    assert "gall_bladder" not in part
    assert sorted(part.values()) == list(range(9))
    for path in out.rglob("labelsTr/*.nii.gz"):
        image = path.parents[1] / "imagesTr" / path.name.replace(".nii.gz", "_0000.nii.gz")
        assert read_grid(image).same_as(read_label(path).grid)
    label = read_label(out / "Dataset402_Atlas8k_without_2/labelsTr/new.nii.gz").array
    expected = columns(*(organ for organ in ORGAN_NAMES if organ != "gall_bladder"))
    for organ, value in part.items():
        if value:
            assert np.array_equal(label == value, expected == ORGAN_IDS[organ])


def test_a_flat_map_never_says_background_of_what_is_unknown(campaign: Campaign):
    out = campaign.export(layout="flat", require="any").out
    assert sorted(p.name for p in (out / "labels").iterdir()) == ["whole.nii.gz"]
    assert "gall_bladder" in left_out(out)["new", ""]
    # Without that organ they are complete.
    organs = tuple(organ for organ in ORGAN_NAMES if organ != "gall_bladder")
    out = campaign.export("less", layout="flat", require="any", organs=organs).out
    assert len(list((out / "labels").iterdir())) == 4


def test_voxels_that_could_be_any_organ_stay_open(campaign: Campaign):
    mask = columns("aorta", start=5)[..., ::-1].astype(bool)
    campaign.service.folder.store_label("whole", "public-unknown", mask.view(np.uint8), GRID, {})
    assert not (read_label(campaign.studies / "labels/original/whole.nii.gz").array > 0)[mask].all()
    out = campaign.export().out
    opened = manifest(out)["volumes"]["whole"]["open_voxels"]
    assert read_label(out / "whole/unknown.nii.gz").array.sum() == opened > 0
    assert not (out / "whole/combined_labels.nii.gz").exists()
    out = campaign.export("sets", layout="nnunet").out
    path = next(out.glob("Dataset912_*/labelsTr/whole.nii.gz"))
    assert (read_label(path).array == 10).sum() == opened
    labels = json.loads((path.parents[1] / "dataset.json").read_text())["labels"]
    assert labels["ignore"] == 10


def test_conflicts_disputes_and_excluded_volumes_are_left_out(tmp_path: Path):
    made = Campaign.begun(tmp_path, "conflict", "disputed", "excluded", "fine")
    for volume in ("conflict", "disputed", "excluded", "fine"):
        made.pseudo(volume, "liver")
        made.public(volume, spleen="present")
    for who, start in ((ANNA, 1), (BEN, 3)):
        made.service.ledger.lease("conflict", who) if who is ANNA else None
        made.submit("conflict", columns("liver", start=start) | columns("spleen"), who)
    made.submit("disputed", columns("liver") | columns("spleen", start=3), looked_at=["liver"])
    made.service.ledger.exclude("excluded", "Mrs Miller, wrong scan", ANNA)
    assert made.service.ledger.status("conflict") == "conflict"
    out = made.export().out
    assert list(manifest(out)["volumes"]) == ["disputed", "fine"]
    reasons = left_out(out)
    assert "contradict" in reasons["conflict", ""]
    assert "disputes" in reasons["disputed", "spleen"]
    assert reasons["excluded", ""] == "excluded from the campaign"
    assert b"Miller" not in b"".join(files(out).values())
    made.service.close()


def test_a_ct_that_changed_after_its_label(campaign: Campaign):
    ct = campaign.studies / "whole.nii.gz"
    write_ct(ct, 99)
    os.utime(ct, (time.time() + 60,) * 2)
    out = campaign.export().out
    assert "changed after" in left_out(out)["whole", ""]
    out = campaign.export("accepted", accept_changed=True).out
    assert "whole" in manifest(out)["volumes"]
    write_nifti(ct, np.arange(504, dtype=np.int16).reshape(9, 8, 7), Grid((9, 8, 7), np.eye(4)))
    campaign.service.folder.refresh()
    out = campaign.export("other", accept_changed=True).out
    assert "another grid" in left_out(out)["whole", ""]


def test_a_damaged_label_is_left_out(campaign: Campaign):
    kept = next((campaign.studies / "labels/.history/original/whole").glob("*.nii.gz"))
    for path in (campaign.studies / "labels/.history/original/whole").glob("*.nii.gz"):
        path.write_bytes(path.read_bytes()[:-3])
    assert kept.is_file()
    assert "doctor" in left_out(campaign.export().out)["whole", ""]


@pytest.mark.parametrize("name", ["a b", "ä", "CON", "nul.1", "-x", "x.", "a:b"])
def test_names_that_are_not_portable(name: str):
    assert name_fault(name)
    assert not name_fault("BDMAP_00000001")
    assert name_fault("Case", twins=2)


def test_volumes_are_renamed_by_their_number(tmp_path: Path):
    made = Campaign.begun(tmp_path, "Müller Anna", "b")
    made.public("Müller Anna", liver="present")
    made.public("b", liver="present")
    out = made.export().out
    assert "not portable" in left_out(out)["Müller Anna", ""]
    out = made.export("named", rename="AA_").out
    assert sorted(manifest(out)["volumes"]) == ["AA_00000001", "AA_00000002"]
    assert "Müller".encode() not in b"".join(files(out).values())
    write_ct(made.studies / "0.nii.gz")
    made.service.folder.refresh()
    made.public("0", liver="present")
    more = manifest(made.export("more", rename="AA_").out)["volumes"]
    before = manifest(out)["volumes"]
    assert {name: more[name] for name in before} == before
    made.service.close()


def test_cts_say_nothing_but_their_voxels(campaign: Campaign):
    image = nib.load(campaign.studies / "part.nii.gz")
    voxels = image.get_fdata()
    image.header["descrip"] = b"Miller^Jane 19700101"
    image.header.extensions.append(nib.nifti1.Nifti1Extension(6, b"PatientName Miller"))
    path = campaign.studies / "part.nii.gz"
    before = path.stat()
    nib.save(image, path)
    os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))
    out = campaign.export(cts="link").out
    assert (out / "whole/ct.nii.gz").is_symlink()
    copy = out / "part/ct.nii.gz"
    assert not copy.is_symlink()
    assert nib.load(copy).header["descrip"] == b""
    assert not nib.load(copy).header.extensions
    assert np.array_equal(nib.load(copy).get_fdata(), voxels)
    assert read_grid(copy).same_as(GRID)
    assert manifest(out)["volumes"]["part"]["ct"]["how"] == "bare copy"


def test_a_target_that_is_there_is_refused(campaign: Campaign):
    out = campaign.folder / "out"
    out.mkdir()
    (out / "mine").write_text("x")
    with pytest.raises(ExportError, match="is there already"):
        campaign.export()
    assert list(out.iterdir()) == [out / "mine"]
    with pytest.raises(ExportError, match="studies folder"):
        campaign.export("studies/out")
    (campaign.folder / "free.unfinished").mkdir()
    with pytest.raises(ExportError, match="no unfinished export"):
        campaign.export("free")
    with pytest.raises(ExportError, match="nothing to export"):
        campaign.export("none", organs=("gall_bladder",), layout="flat", require="confirmed",
                        rename="a b")  # fmt: skip


def killed_after(number: int):
    """A progress that ends the process after so many volumes."""

    def progress(items: Iterable[object]) -> Iterator[object]:
        for i, item in enumerate(items):
            if i == number:
                os.kill(os.getpid(), signal.SIGKILL)
            yield item

    return progress


def export_until_killed(folder: Path, after: int) -> None:
    Campaign(folder).export(require="any", cts="copy", progress=killed_after(after))


@pytest.mark.parametrize("after", range(4))
def test_killed_and_gone_on_with(campaign: Campaign, after: int):
    campaign.export("whole", require="any", cts="copy")
    campaign.service.close()
    assert apart.run(export_until_killed, campaign.folder, after) == -signal.SIGKILL
    out, work = campaign.folder / "out", campaign.folder / "out.unfinished"
    assert not out.exists()
    # What it was writing at that moment: a file of nobody's, and half a line.
    (work / "zzz/segmentations").mkdir(parents=True)
    (work / "zzz/segmentations/liver.nii.gz").write_text("half")
    with open(work / ".done.jsonl", "ab") as stream:
        stream.write(b'{"key": "')
    done = campaign.export(require="any", cts="copy")
    assert done.kept == after
    assert not work.exists()
    assert files(out) == files(campaign.folder / "whole")


def test_what_changed_meanwhile_is_written_anew(campaign: Campaign):
    def stop(items: Iterable[object]) -> Iterator[object]:
        yield from itertools.islice(items, 3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        campaign.export(require="any", progress=stop)
    with pytest.raises(ExportError, match="other settings"):
        campaign.export(require="confirmed")
    campaign.public("new", aorta="absent")
    done = campaign.export(require="any")
    assert done.kept == 2
    assert not read_label(done.out / "new/segmentations/aorta.nii.gz").array.any()
    assert files(done.out) == files(campaign.export("again", require="any").out)


def export_to_a_full_disk(folder: Path) -> None:
    campaign = Campaign(folder)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    campaign.export("warm", require="any")
    resource.setrlimit(resource.RLIMIT_FSIZE, (400, resource.RLIM_INFINITY))
    with pytest.raises(ExportError, match=r"a disk is full.*goes on"):
        campaign.export(require="any", cts="copy")
    os._exit(9)


def test_a_full_disk(campaign: Campaign):
    campaign.service.close()
    assert apart.run(export_to_a_full_disk, campaign.folder) == 9
    assert not (campaign.folder / "out").exists()
    done = campaign.export(require="any", cts="copy")
    assert files(done.out) == files(campaign.export("again", require="any", cts="copy").out)


def test_a_frozen_export_is_made_again_although_the_campaign_went_on(campaign: Campaign):
    folder = campaign.service.folder
    models = campaign.folder / "models/embedded"
    models.mkdir(parents=True)
    (models / "unet.safetensors").write_bytes(b"weights")
    settings = ExportSettings(require="any", layout="nnunet", cts="copy")
    first = campaign.folder / "first"
    kept = freeze(folder, models.parent)
    assert kept["models"]["m0"]["sha256"] == {
        "unet.safetensors": sha256_of(models / "unet.safetensors")
    }
    export(folder, first, settings, select(folder, "any"), frozen=kept)
    campaign.submit("new", columns("liver", start=4), BEN, absent=["spleen"])
    settings, chosen, kept = again(folder, first)
    second = export(folder, campaign.folder / "second", settings, chosen, frozen=kept).out
    assert files(second) == files(first)
    assert files(campaign.export("now", require="any", layout="nnunet", cts="copy").out) != files(
        first
    )
    write_ct(campaign.studies / "whole.nii.gz", 7)
    settings, chosen, kept = again(folder, first)
    with pytest.raises(ExportError, match="whole does not come out as it was"):
        export(folder, campaign.folder / "third", settings, chosen, frozen=kept)
    (first / "manifest.json").write_text("{}")
    with pytest.raises(ExportError, match="was changed"):
        again(folder, first)


def test_own_datasets_are_those_of_then(campaign: Campaign):
    folder = campaign.service.folder
    maps = campaign.folder / "own.yaml"
    maps.write_text("OWN:\n  licence: CC BY 4.0\n  values: {1: liver}\n")
    for name in ("part", "whole"):
        said = {"liver": OrganSource("public", "present", "OWN")}
        campaign.service.keep_public(name, columns("liver"), GRID, said)
    first, own = campaign.folder / "first", str(maps)
    settings = ExportSettings(maps=own, purpose="commercial")
    chosen = select(folder, "confirmed", purpose="commercial", maps=own)
    export(folder, first, settings, chosen, frozen=freeze(folder, first, own))
    assert "CC BY 4.0" in (first / "ATTRIBUTION.md").read_text()
    assert str(maps).encode() not in b"".join(files(first).values())
    settings, chosen, kept = again(folder, first, own)
    second = export(folder, campaign.folder / "second", settings, chosen, frozen=kept).out
    assert files(second) == files(first)
    with pytest.raises(ExportError, match="give it by --maps"):
        again(folder, first)
    with pytest.raises(ExportError, match="is not there"):
        again(folder, first, str(campaign.folder / "gone.yaml"))
    maps.write_text(maps.read_text() + "# more\n")
    with pytest.raises(ExportError, match="is another file"):
        again(folder, first, own)
    without = campaign.folder / "without"
    export(folder, without, ExportSettings(), select(folder, "confirmed"),
           frozen=freeze(folder, without))  # fmt: skip
    with pytest.raises(ExportError, match="made without --maps"):
        again(folder, without, own)


def test_licences_decide_what_is_passed_on(tmp_path: Path):
    made = Campaign.begun(tmp_path, "flare", "jhh", "own")
    for volume, dataset in (("flare", "FLARE23"), ("jhh", "JHH"), ("own", "our own")):
        made.service.ledger.add_volumes([VolumeEntry(volume, dataset)])
        made.pseudo(volume, "liver", "spleen")
        said = {"aorta": OrganSource("public", "present", dataset)}
        made.service.keep_public(volume, columns("aorta"), GRID, said)
        array = columns("aorta") | columns("liver") | columns("spleen", start=2)
        made.submit(volume, array, looked_at=["liver"])
    out = made.export(cts="copy").out
    organs = {name: sorted(one["organs"]) for name, one in manifest(out)["volumes"].items()}
    assert organs == {
        "flare": ["liver", "spleen"],
        "jhh": ["liver", "spleen"],
        "own": ["aorta", "liver", "spleen"],
    }
    assert "nothing adapted" in left_out(out)["flare", "aorta"]
    assert (out / "flare/ct.nii.gz").is_file()
    assert not (out / "jhh/ct.nii.gz").exists()
    page = (out / "ATTRIBUTION.md").read_text()
    assert "CC BY-NC-ND 4.0" in page
    assert "not to be shared" in page
    assert "not known" in page  # and `own` stays, see above
    out = made.export("commercial", cts="copy", purpose="commercial").out
    assert "aorta" not in manifest(out)["volumes"]["own"]["organs"]
    assert "our own: its licence is not known" in left_out(out)["own", "aorta"]
    assert not (out / "flare/ct.nii.gz").exists()
    out = made.export("internal", cts="copy", purpose="internal").out
    assert "aorta" in manifest(out)["volumes"]["jhh"]["organs"]
    assert (out / "jhh/ct.nii.gz").is_file()
    made.service.close()
