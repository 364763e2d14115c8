"""Releases as others publish them, imported into a folder that holds CTs and nothing else.

Labels come back voxel for voxel, organs with what the release says of each and no more.
"""

from __future__ import annotations

import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from tests.cli.test_labels_import import book, public_of, raw_of, run
from tests.services.exporting.kit import mixed

from abdomen_phantom import generate
from atlas8k.core.grid import Volume
from atlas8k.core.structure_sets import find_set
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES, using
from atlas8k.core.volume import read_label, write_nifti
from atlas8k.services.labels.service import LabelService
from atlas8k.services.studies.opening import open_ledger
from atlas8k.store import OrganSource, locate

SEEDS = (1000, 1005, 1006)
MISSING = {1005: "gall_bladder"}
"""Phantoms without that organ."""
CASES = ("BDMAP_00000001", "BDMAP_00000002", "BDMAP_00000003")
NNUNET = {name: 2 * number for number, name in enumerate(reversed(ORGAN_NAMES), start=1)}
PANTS = {
    "aorta": 3, "gall_bladder": 11, "kidney_left": 12, "kidney_right": 13, "liver": 14,
    "pancreas": 17, "postcava": 22, "spleen": 24, "stomach": 25,
}  # fmt: skip
TOTALSEGMENTATOR = {
    "gall_bladder": "gallbladder",
    "postcava": "inferior_vena_cava",
    **{name: name for name in ORGAN_NAMES if name not in ("gall_bladder", "postcava")},
}
PUBLIC = {"present", "absent"}


@pytest.fixture(scope="module")
def patients() -> list[tuple[Volume, Volume]]:
    made = [generate(seed, grid_spacing_mm=6.0) for seed in SEEDS]
    return [(phantom.ct, phantom.label) for phantom in made]


@pytest.fixture
def empty(tmp_path: Path, patients: list[tuple[Volume, Volume]]) -> Path:
    """A studies folder that nobody has opened: ``CASE/ct.nii.gz``."""
    for name, (ct, _) in zip(CASES, patients, strict=True):
        write_nifti(tmp_path / "empty" / name / "ct.nii.gz", ct.array.astype(np.int16), ct.grid)
    return tmp_path / "empty"


def masks(folder: Path, label: Volume, names: Mapping[str, str]) -> None:
    for organ, name in names.items():
        mask = (label.array == ORGAN_IDS[organ]).astype(np.uint8)
        write_nifti(folder / f"{name}.nii.gz", mask, label.grid)


def blob(label: Volume) -> np.ndarray:
    """Some voxels that are no organ, as of a structure beside the nine."""
    found = np.zeros(label.array.shape, np.uint8)
    found[1:3, 1:3, 1:3] = 1
    return found & (label.array == 0)


def atlas_1_0(case: Path, _: str, label: Volume) -> None:
    write_nifti(case / "combined_labels.nii.gz", label.array, label.grid)
    masks(case / "segmentations", label, dict(zip(ORGAN_NAMES, ORGAN_NAMES, strict=True)))


def atlas_1_0_masks(case: Path, _: str, label: Volume) -> None:
    masks(case / "segmentations", label, dict(zip(ORGAN_NAMES, ORGAN_NAMES, strict=True)))


def atlas_1_1(case: Path, _: str, label: Volume) -> None:
    """25 structures: the nine and duodenum and rectum have voxels."""
    more = np.where(blob(label) > 0, np.uint8(15), label.array)
    more[-3:-1, 1:3, 1:3] = 25
    write_nifti(case / "combined_labels.nii.gz", more, label.grid)
    masks(case / "segmentations", label, dict(zip(ORGAN_NAMES, ORGAN_NAMES, strict=True)))
    write_nifti(case / "segmentations/duodenum.nii.gz", blob(label), label.grid)


def pants(folder: Path, name: str, label: Volume) -> None:
    case = folder.parent / "LabelTr" / name
    raw = raw_of(label, PANTS)
    raw[blob(label) > 0] = 8
    write_nifti(case / "combined_labels.nii.gz", raw, label.grid)


def pants_masks(folder: Path, name: str, label: Volume) -> None:
    case = folder.parent / "LabelTr" / name / "segmentations"
    masks(case, label, dict(zip(ORGAN_NAMES, ORGAN_NAMES, strict=True)))
    write_nifti(case / "pancreatic_lesion.nii.gz", blob(label), label.grid)


def nnunet(folder: Path, name: str, label: Volume) -> None:
    place = folder.parent / ("labelsTs" if name == CASES[2] else "labelsTr")
    write_nifti(place / f"{name}.nii.gz", raw_of(label, NNUNET), label.grid)
    names = {"background": 0, **NNUNET, "tail": 30}
    (folder.parent / "dataset.json").write_text(json.dumps({"labels": names}))


def totalsegmentator(case: Path, _: str, label: Volume) -> None:
    masks(case / "segmentations", label, TOTALSEGMENTATOR)
    for other in ("vertebrae_L1", "small_bowel"):
        write_nifti(case / f"segmentations/{other}.nii.gz", blob(label), label.grid)
    (case.parent / "meta.csv").write_text("image_id;age;gender\n")


RELEASES: dict[str, tuple[str, Callable[[Path, str, Volume], None]]] = {
    "atlas-1.0": ("AbdomenAtlas 1.0", atlas_1_0),
    "atlas-1.0-masks": ("AbdomenAtlas 1.0", atlas_1_0_masks),
    "atlas-1.1": ("AbdomenAtlas 1.1", atlas_1_1),
    "pants": ("PanTS", pants),
    "pants-masks": ("PanTS", pants_masks),
    "nnunet": ("a set of ours", nnunet),
    "totalsegmentator": ("TotalSegmentator v2", totalsegmentator),
}


@pytest.mark.parametrize("release", RELEASES)
def test_a_release_into_an_empty_folder(
    release: str, empty: Path, tmp_path: Path, patients: list[tuple[Volume, Volume]]
) -> None:
    dataset, lay_out = RELEASES[release]
    folder = tmp_path / "release"
    for name, (_, label) in zip(CASES, patients, strict=True):
        lay_out(folder / name, name, label)
    assert "3 imported" in run("import", dataset, folder, "--studies", empty).stdout
    for seed, name, (_, label) in zip(SEEDS, CASES, patients, strict=True):
        assert np.array_equal(public_of(empty, name), label.array)
        draft = read_label(empty / "labels/original" / f"{name}.nii.gz")
        assert np.array_equal(draft.array, label.array)
        assert draft.grid.same_as(label.grid)
        states = dict.fromkeys(ORGAN_NAMES, "present")
        if seed in MISSING:
            states[MISSING[seed]] = "absent"
        expected = {o: OrganSource("public", state, dataset) for o, state in states.items()}
        assert book(empty).sources(name) == expected
    assert "3 unchanged" in run("import", dataset, folder, "--studies", empty).stdout


def test_organs_without_a_mask_are_unknown(
    empty: Path, tmp_path: Path, patients: list[tuple[Volume, Volume]]
) -> None:
    """Of one case all masks but two, of another one organ alone."""
    names = dict(zip(ORGAN_NAMES, ORGAN_NAMES, strict=True))
    some = {n: n for n in ORGAN_NAMES if n not in ("liver", "stomach")}
    known = (names, some, {"spleen": "spleen"})
    for name, organs, (_, label) in zip(CASES, known, patients, strict=True):
        masks(tmp_path / "release" / name / "segmentations", label, organs)
    run("import", "AbdomenAtlas 1.0", tmp_path / "release", "--studies", empty)
    for name, organs in zip(CASES, known, strict=True):
        sources = book(empty).sources(name)
        assert {o for o, s in sources.items() if s.source == "public"} == set(organs)
        unknown = set(ORGAN_NAMES) - set(organs)
        assert all(sources[organ].state == "unknown" for organ in unknown)
        ids = [ORGAN_IDS[organ] for organ in unknown]
        assert not np.isin(public_of(empty, name), ids).any()


@pytest.fixture
def campaign_of_25(empty: Path) -> Iterator[Path]:
    structures = find_set("abdomenatlas-1.1")
    with using(structures):
        open_ledger(empty, locate(str(empty)), structures=structures).close()
        yield empty


def test_atlas_1_1_into_a_campaign_of_its_25_structures(
    campaign_of_25: Path, tmp_path: Path, patients: list[tuple[Volume, Volume]]
) -> None:
    wanted = {}
    for name, (_, label) in zip(CASES, patients, strict=True):
        atlas_1_1(tmp_path / "release" / name, name, label)
        path = tmp_path / "release" / name / "combined_labels.nii.gz"
        wanted[name] = read_label(path).array
    run("import", "AbdomenAtlas 1.1", tmp_path / "release", "--studies", campaign_of_25, "--force")
    for name, array in wanted.items():
        assert np.array_equal(public_of(campaign_of_25, name), array)
        sources = book(campaign_of_25).sources(name)
        assert sources["duodenum"] == OrganSource("public", "present", "AbdomenAtlas 1.1")
        assert sources["rectum"].state == "present"
        assert {s.state for s in sources.values()} <= {*PUBLIC, "unknown"}
        assert len(sources) == 25


def test_an_export_without_its_manifest_is_an_atlas_1_0(tmp_path: Path) -> None:
    """Handed on by somebody who kept the files alone: every organ that has one is public."""
    (tmp_path / "first").mkdir()
    first = mixed(tmp_path / "first")
    out = first.export(require="any").out
    known = {
        case["name"]: {**case["organs"]}
        for case in json.loads((out / "manifest.json").read_text())["volumes"]
    }
    for name in ("manifest.json", "manifest.csv", "left_out.csv"):
        (out / name).unlink()
    own = tmp_path / "own"
    own.mkdir()
    for path in first.studies.glob("*.nii.gz"):
        shutil.copy2(path, own)
    run("import", "AbdomenAtlas 1.0", out, "--studies", own, "--force")
    for name, organs in known.items():
        ids = [ORGAN_IDS[organ] for organ in organs]
        before = read_label(first.studies / f"labels/original/{name}.nii.gz").array
        assert np.array_equal(public_of(own, name), np.where(np.isin(before, ids), before, 0))
        sources = book(own).sources(name)
        there = {organ for organ, said in organs.items() if said["ml"]}
        assert {o for o, s in sources.items() if s.state == "present"} == there
    first.service.close()


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_a_packed_release_is_refused_in_words(suffix: str, empty: Path, tmp_path: Path) -> None:
    packed = tmp_path / f"AbdomenAtlas1.0Mini{suffix}"
    (tmp_path / "note.txt").write_text("labels")
    if suffix == ".zip":
        with zipfile.ZipFile(packed, "w") as archive:
            archive.write(tmp_path / "note.txt", "BDMAP_00000001/segmentations/liver.nii.gz")
    else:
        with tarfile.open(packed, "w:gz") as archive:
            archive.add(tmp_path / "note.txt", "BDMAP_00000001/segmentations/liver.nii.gz")
    words = ("import", "AbdomenAtlas 1.0")
    run(*words, packed, "--studies", empty, fails="packed file; unpack it, and give the folder")
    run(*words, empty, "--studies", packed, fails="packed file; unpack it, and give its folder")
    holder = tmp_path / "downloads"
    holder.mkdir()
    packed.rename(holder / packed.name)
    run(*words, holder, "--studies", empty, fails=f"packed files .{packed.name}.*unpack them")
    assert not (empty / "labels").exists()
    # Among CTs, too, it is named rather than passed over.
    (holder / packed.name).rename(empty / packed.name)
    service = LabelService.open(empty)
    assert "packed file; unpack it" in service.folder.now().not_listed[packed.name]
    service.close()
