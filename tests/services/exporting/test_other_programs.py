"""Phantoms and real CTs there and back in each layout; nnU-Net's own check and MONAI read them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tests.content.kit import DATA, real
from tests.services.exporting.kit import INFO, RIGHT, files, manifest

from abdomen_phantom import generate
from atlas8k.core.grid import Volume
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.core.volume import read_grid, read_label, write_nifti
from atlas8k.core.voxels import only
from atlas8k.services.exporting.bring_in import bring_in, records
from atlas8k.services.exporting.export import ExportSettings, export
from atlas8k.services.exporting.selection import select
from atlas8k.services.labels.service import LabelService
from atlas8k.store import Holder, OrganSource, VolumeEntry

pytestmark = pytest.mark.slow
PHANTOMS = 30
NNUNET = os.environ.get(
    "ATLAS8K_NNUNET", str(Path(__file__).parents[3] / ".venv-nnunet/bin/python")
)
"""Python of an environment with nnunetv2, see the Makefile."""
EXAMPLE = DATA / "totalsegmentator-example"


def volumes() -> Iterator[tuple[str, Volume, np.ndarray]]:
    """Phantoms with their truth; real CTs with the labels there are, and one without."""
    for seed in range(PHANTOMS):
        made = generate(seed, grid_spacing_mm=6.0)
        yield f"phantom_{seed:02d}", made.ct, made.label.array
    if not EXAMPLE.is_dir():
        return
    yield (
        "example", real("totalsegmentator-example/ct.nii.gz"),
        np.asarray(read_label(EXAMPLE / "labels_model_v2.nii.gz").array),
    )  # fmt: skip
    for name in ("totalsegmentator-bodies/s0009_ct.nii.gz", "cptac-pda-dicom"):
        ct = real(name)
        soft = ((ct.array > 30) & (ct.array < 70)).astype(np.uint8)
        yield Path(name).name.split("_")[0], ct, soft * ORGAN_IDS["liver"]


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelService]:
    """A third is confirmed, a third corrected, of a third the liver is a dataset's."""
    folder = tmp_path_factory.mktemp("campaign")
    studies = folder / "studies"
    studies.mkdir()
    every = list(volumes())
    for name, ct, _ in every:
        write_nifti(studies / f"{name}.nii.gz", ct.array.astype(np.int16), ct.grid)
    service = LabelService.open(studies)
    service.ledger.register_model_version("m0")
    for number, (name, ct, label) in enumerate(every):
        there = [organ for organ in ORGAN_NAMES if (label == ORGAN_IDS[organ]).any()]
        service.ledger.add_volumes([VolumeEntry(name, "BTCV")])
        service.keep_pseudo(name, label, ct.grid, {"model_version": "m0"})
        if number % 3 == 0:
            service.keep_public(
                name, label, ct.grid, {"liver": OrganSource("public", "present", "BTCV")}
            )
            continue
        params = {
            "label_info": INFO, **RIGHT, "looked_at": there,
            "absent": [organ for organ in ORGAN_NAMES if organ not in there],
        }  # fmt: skip
        sent = label.copy()
        if number % 3 == 2:
            sent[label == ORGAN_IDS["spleen"]] = 0
        path = write_nifti(folder / "sent.nii.gz", sent, ct.grid)
        service.submit(name, path, Holder.identify(user=f"reader {number % 2}"), params)
    yield service
    service.close()


def written(service: LabelService, out: Path, **settings: str) -> Path:
    said = ExportSettings(**settings)
    return export(service.folder, out, said, select(service.folder, said.require)).out


@pytest.mark.parametrize("layout", ["abdomenatlas", "nnunet", "flat", "dicom"])
def test_there_and_back(campaign: LabelService, tmp_path: Path, layout: str):
    cts = "copy" if layout == "dicom" else "link"
    out = written(campaign, tmp_path / "out", layout=layout, require="any", cts=cts)
    (tmp_path / "studies").mkdir()
    said = manifest(out)["volumes"]
    for name in said:
        shutil.copy2(campaign.folder.path / f"{name}.nii.gz", tmp_path / "studies")
    other = LabelService.open(tmp_path / "studies")
    for record in records(out):
        assert bring_in(other, record["name"], out, record, "Atlas8k")
    assert len(said) >= PHANTOMS / 2
    for name, record in said.items():
        before, after = campaign.ledger.sources(name), other.ledger.sources(name)
        pseudo = OrganSource("pseudo", "unknown")
        for organ in record["organs"]:
            assert after.get(organ, pseudo)[:3] == before.get(organ, pseudo)[:3], (name, organ)
        ids = [ORGAN_IDS[organ] for organ in record["organs"]]
        one, two = (
            only(read_label(s.folder.path / f"labels/original/{name}.nii.gz").array, ids)
            for s in (campaign, other)
        )
        assert np.array_equal(one, two)
    other.close()


def test_nnunets_own_check_passes(campaign: LabelService, tmp_path: Path):
    if not Path(NNUNET).is_file():
        pytest.skip(f"{NNUNET} is not there: make nnunet, or set ATLAS8K_NNUNET")
    out = written(campaign, tmp_path / "out", layout="nnunet", require="any", cts="link")
    sets = sorted(out.glob("Dataset*"))
    assert len(sets) > 1
    check = (
        "import sys; from nnunetv2.experiment_planning.verify_dataset_integrity import "
        "verify_dataset_integrity as check; [check(one, 1) for one in sys.argv[1:]]"
    )
    done = subprocess.run(
        [NNUNET, "-c", check, *map(str, sets)],
        capture_output=True, text=True, check=False,
        env={**os.environ, "nnUNet_raw": str(out), "PYTHONPATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.count("verify_dataset_integrity Done") == len(sets), done.stdout[-3000:]
    # It can fail: a value that the set does not name.
    path = next(sets[0].glob("labelsTr/*.nii.gz"))
    label = read_label(path)
    write_nifti(path, np.where(label.array == 1, np.uint8(77), label.array), label.grid)
    done = subprocess.run(
        [NNUNET, "-c", check, str(sets[0])],
        capture_output=True, text=True, check=False,
        env={**os.environ, "nnUNet_raw": str(out), "PYTHONPATH": ""},
    )  # fmt: skip
    assert done.returncode != 0


def test_monai_reads_it(campaign: LabelService, tmp_path: Path):
    from monai.data import DataLoader, Dataset
    from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, Orientationd

    out = written(campaign, tmp_path / "out", layout="flat", cts="copy")
    pairs = [
        {"image": str(out / one["ct"]["file"]), "label": str(out / next(iter(one["files"])))}
        for one in manifest(out)["volumes"].values()
    ]
    keys = ["image", "label"]
    load = Compose(
        [LoadImaged(keys), EnsureChannelFirstd(keys), Orientationd(keys, "RAS", labels=None)]
    )
    found = 0
    for batch, pair in zip(DataLoader(Dataset(pairs, load), batch_size=1), pairs, strict=True):
        assert batch["image"].shape == batch["label"].shape
        label = nib.as_closest_canonical(nib.load(pair["label"]))
        assert np.array_equal(batch["label"][0, 0].numpy(), np.asarray(label.dataobj))
        found += 1
    assert found == len(pairs) > PHANTOMS / 2
    assert read_grid(pairs[0]["image"]).same_as(read_grid(pairs[0]["label"]))
    assert all(name.endswith((".gz", ".json", ".csv", ".md")) for name in files(out))
