"""CTs that programs read in different ways: named, served in one form, labels put right."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tests.headers import CASES, LPS, itk_affine, itk_voxels, write_header
from tests.server.tiny import write_ct

from atlas8k.core.errors import GeometryError, GridMismatchError
from atlas8k.core.nifti_geometry import without_shear
from atlas8k.core.settings import Settings
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import read_comments, read_ct, read_grid, read_label
from atlas8k.server.archive_datastore import datastore_of
from atlas8k.server.datastore import StudiesDatastore
from atlas8k.server.routes.cases_page import receipt_text
from atlas8k.server.routes.datastore import said
from atlas8k.services.context import Context
from atlas8k.services.opening import open_context
from atlas8k.services.studies.folder import SERVED_FOLDER
from atlas8k.store import Holder

SHAPE = (10, 9, 8)
SHIFTED = LPS.copy()
SHIFTED[0, 3] += 30
MIRRORED = LPS @ np.diag([-1.0, 1, 1, 1])
MIRRORED[0, 3] = LPS[0, 3] + LPS[0, 0] * (SHAPE[0] - 1)
TILTED = LPS.copy()
TILTED[1, 2] = 0.6
SHEARLESS = without_shear(TILTED)
FORMS = {  # sform, qform, where clients get it
    "shifted": (SHIFTED, LPS, SHIFTED),
    "mirrored": (MIRRORED, LPS, MIRRORED),
    "tilted": (TILTED, TILTED, SHEARLESS),
    "tilted_sform": (TILTED, None, SHEARLESS),
    "plain": (LPS, LPS, LPS),
}
me = Holder.identify(client_id="me")


def ct_array() -> np.ndarray:
    return np.random.default_rng(3).integers(-1000, 400, SHAPE).astype(np.int16)


def label_array() -> np.ndarray:
    """Nine organs, each of other voxels, none symmetric."""
    array = np.zeros(SHAPE, np.uint8)
    for number in range(1, 10):
        array[number % 7 : number % 7 + 1 + number % 3, number % 5 + 1, number % 6 : 8] = number
    return array


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    folder = tmp_path / "studies"
    folder.mkdir()
    for name, (sform, qform, _) in FORMS.items():
        codes = (2, 1) if qform is not None else (2, 0)
        write_header(folder / f"{name}.nii.gz", sform, qform, codes, ct_array())
    return folder


@pytest.fixture
def store(context: Context) -> StudiesDatastore:
    assert isinstance(datastore_of(context), StudiesDatastore)
    return datastore_of(context)


def sha256(path: Path) -> str:
    return f"SHA256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.mark.parametrize("name", FORMS)
def test_clients_get_one_form_that_every_program_reads_alike(
    store: StudiesDatastore, studies: Path, name: str
) -> None:
    own = studies / f"{name}.nii.gz"
    before = own.read_bytes()
    served = Path(store.get_image_uri(name))
    image = nib.load(served)
    for affine in (image.get_qform(), image.get_sform(), itk_affine(served)):
        np.testing.assert_allclose(affine, FORMS[name][2], atol=1e-3)
    np.testing.assert_array_equal(itk_voxels(served), ct_array())
    assert (served == own) == (name == "plain")
    # What is said of it is said of what is given out, under the image's own name.
    info = store.get_image_info(name)
    assert (info["name"], info["path"]) == (f"{name}.nii.gz", str(served))
    assert info["checksum"] == sha256(served) == store.studies.checksum(name)
    assert store.get_image(name).getvalue() == served.read_bytes()
    # The study's file is what is computed from, and stays as it is.
    assert store.studies.image_path(name) == own
    assert own.read_bytes() == before
    # Made again, it has the same bytes: a client's cached file stays good.
    if served != own:
        shutil.rmtree(served.parent)
        assert store.get_image_info(name)["checksum"] == info["checksum"]
        assert served.is_file()


def test_a_copy_follows_its_file_and_old_copies_make_room(
    context: Context, store: StudiesDatastore, studies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from atlas8k.services.studies import served as module

    monkeypatch.setattr(module, "IN_USE_S", -1.0)
    first = Path(store.get_image_uri("shifted"))
    write_header(studies / "shifted.nii.gz", SHIFTED, LPS, (2, 1), ct_array() + 1)
    second = Path(store.get_image_uri("shifted"))
    assert second != first
    np.testing.assert_array_equal(itk_voxels(second), ct_array() + 1)
    assert not first.exists()
    store.studies.served._limit = 0
    other = Path(store.get_image_uri("mirrored"))
    assert [p.name for p in (context.state / SERVED_FOLDER).glob("*/*")] == [other.name]
    # A form that is written into the file is no copy's business any more.
    write_header(studies / "mirrored.nii.gz", LPS, LPS, (1, 1), ct_array())
    assert Path(store.get_image_uri("mirrored")) == studies / "mirrored.nii.gz"


@pytest.mark.parametrize("name", FORMS)
def test_a_label_on_any_form_lands_on_the_voxels_it_was_drawn_on(
    context: Context, store: StudiesDatastore, tmp_path: Path, name: str
) -> None:
    label_service = context.label_service
    assert label_service is not None
    truth = label_array()
    sform, qform, served = FORMS[name]
    forms = {"sform": sform, "served": served}
    if qform is not None:
        forms["qform"] = qform if name != "tilted" else SHEARLESS
    for form, affine in forms.items():
        path = tmp_path / f"{form}.nii.gz"
        nib.save(nib.Nifti1Image(truth, affine), path)
        receipt = label_service.submit(name, path, Holder.identify(client_id=form), {})
        where = label_service.reviews.history(name)[-1].file
        assert where is not None
        kept = read_label(where)
        np.testing.assert_array_equal(kept.array, truth)
        assert kept.grid.same_as(read_ct(store.studies.image_path(name)).grid)
        if form == "qform" and name in ("shifted", "mirrored"):
            assert receipt.notes[0] == "it lies on the CT as its qform has it"
            assert any(receipt.notes[0] in comment for comment in read_comments(where))


def test_a_label_that_is_a_little_off_is_snapped_and_the_reply_and_header_say_so(
    context: Context, tmp_path: Path
) -> None:
    label_service = context.label_service
    assert label_service is not None
    near = LPS.copy()
    near[0, 3] += 0.04 * 2  # voxels of 2 mm
    path = tmp_path / "near.nii.gz"
    nib.save(nib.Nifti1Image(label_array(), near), path)
    receipt = label_service.submit("plain", path, me, {})
    assert receipt.notes[0] == "its header is up to 0.040 voxels off the CT's; snapped"
    told = {**said(receipt), "image": "plain"}
    assert f"Of the file: {receipt.notes[0]}" in receipt_text(told)
    line = label_service.reviews.history("plain")[-1]
    assert line.file is not None
    assert datastore_of(context).get_label_info("plain", "final")["notes"] == list(receipt.notes)
    assert any("0.040 voxels off" in comment for comment in read_comments(line.file))
    assert read_label(line.file).grid.same_as(read_grid(context.studies.image_path("plain")))
    near[0, 3] += 0.02 * 2
    nib.save(nib.Nifti1Image(label_array(), near), path)
    with pytest.raises(GridMismatchError, match=r"0\.06 voxels off"):
        label_service.submit("plain", path, me, {})


def test_they_are_named_when_they_are_found(
    context: Context, store: StudiesDatastore, studies: Path, tmp_path: Path
) -> None:
    write_header(studies / "nowhere.nii.gz", None, None, (0, 0), ct_array())
    (studies / "gone.nii.gz").symlink_to(tmp_path / "elsewhere.nii.gz")
    (studies / "scan.nrrd").write_bytes(b"NRRD0004")
    (studies / "notes.txt").write_text("no image")
    (studies / "UPPER.NII.GZ").write_bytes((studies / "plain.nii.gz").read_bytes())
    series = studies / "series"
    series.mkdir()
    (series / "IM0001").write_bytes(bytes(128) + b"DICM")
    other = studies / "other_name"
    other.mkdir()
    (other / "image.nii.gz").write_bytes(b"x")
    store.refresh()
    for name in store.list_images():  # the watcher may be at it: it is not waited for
        store.studies.remarks(name)
    said = context.remarks()
    kinds = {name: [one["kind"] for one in found] for name, found in said["volumes"].items()}
    assert kinds == {
        "UPPER": ["packing"],
        "mirrored": ["two_geometries"],
        "nowhere": ["cannot_be_used"],
        "shifted": ["two_geometries"],
        "tilted": ["sheared"],
        "tilted_sform": ["sheared"],
    }
    assert "orientation.yaml" in said["volumes"]["nowhere"][0]["text"]
    assert set(said["not_listed"]) == {"gone.nii.gz", "scan.nrrd", "series", "other_name"}
    assert "elsewhere.nii.gz, which is not there" in said["not_listed"]["gone.nii.gz"]
    assert "DICOM" in said["not_listed"]["series"]
    assert "image.nii.gz" in said["not_listed"]["other_name"]
    # In capitals it is a CT like any other, and clients get a name that all of them know.
    assert store.get_image_info("UPPER")["name"] == "UPPER.nii.gz"
    np.testing.assert_array_equal(itk_voxels(Path(store.get_image_uri("UPPER"))), ct_array())


def test_without_geometry_nothing_is_served_until_it_is_stated(
    context: Context, store: StudiesDatastore, studies: Path, tmp_path: Path
) -> None:
    write_header(studies / "nowhere.nii.gz", None, None, (0, 0), ct_array())
    case = studies / "case_1"
    case.mkdir()
    write_header(case / "ct.nii.gz", None, None, (0, 0), ct_array())
    store.refresh()
    for name in ("nowhere", "case_1"):
        for ask in (
            store.get_image_uri,
            store.get_image_info,
            store.studies.checksum,
            store.get_image,
        ):
            with pytest.raises(GeometryError, match=r"orientation\.yaml"):
                ask(name)
    before = store.studies.fingerprint("nowhere")
    stated = studies / "orientation.yaml"
    stated.write_text("# what the headers do not say\nnowhere: LPS\ncase_*: RAS\nshifted: qform\n")
    for name, codes in (("nowhere", "LPS"), ("case_1", "RAS")):
        served = Path(store.get_image_uri(name))
        assert "".join(nib.aff2axcodes(itk_affine(served))) == codes
        np.testing.assert_array_equal(itk_voxels(served), ct_array())
        assert store.studies.remarks(name)[0].kind == "stated_orientation"
    np.testing.assert_allclose(itk_affine(Path(store.get_image_uri("shifted"))), LPS, atol=1e-3)
    assert store.studies.remarks("shifted")[0].level == "note"
    # Scores and predictions of before are not taken for those of now.
    assert store.studies.fingerprint("nowhere") != before
    stated.write_text("nowhere: LPX\n")
    with pytest.raises(GeometryError, match=r"orientation\.yaml: nowhere: orientation 'LPX'"):
        store.get_image_uri("nowhere")


def test_a_ct_without_geometry_is_not_given_out(context: Context, studies: Path) -> None:
    for path in studies.glob("*.nii.gz"):
        path.unlink()
    write_header(studies / "a.nii.gz", None, None, (0, 0), ct_array())
    write_ct(studies / "b.nii.gz")
    context.studies.refresh()
    context.sync()
    model_version = context.model_version()
    sample = context.ledger.next_sample(holder=me, strategy="first", model_version=model_version)
    assert sample is not None
    assert sample.volume == "a"
    assert not context.bring("a", me)
    assert "orientation.yaml" in context.ledger.failures(model_version)["a"]
    sample = context.ledger.next_sample(holder=me, strategy="first", model_version=model_version)
    assert sample is not None
    assert sample.volume == "b"
    assert context.bring("b", me)


@pytest.mark.skipif(not CASES.is_dir(), reason="shared/cases is not here")
class TestGotWrong:
    """Labels as viewers saved them, on files that were read in two ways."""

    @pytest.fixture
    def opened(self, tmp_path: Path, models: Path) -> Iterator[Context]:
        folder = tmp_path / "cases"
        folder.mkdir()
        for path in [*CASES.glob("two-forms/*forms.nii.gz"), *CASES.glob("sheared/tilt*.nii.gz")]:
            shutil.copy(path, folder)
        context = open_context(Settings(device="cpu"), str(folder), models)
        yield context
        context.close()

    @pytest.mark.parametrize(
        ("volume", "label"),
        [
            ("twoforms", "two-forms/submitted.nii.gz"),
            ("twoforms", "two-forms/submitted_cropped.seg.nrrd"),
            ("mirrorforms", "two-forms/submitted_mirror.nii.gz"),
            ("tilt05", "sheared/submitted_tilt05.nii.gz"),
            ("tilt12", "sheared/submitted_tilt12.nii.gz"),
            ("tilt12_sform_only", "sheared/submitted_tilt12.nii.gz"),
        ],
    )
    def test_each_lands_where_it_was_drawn(
        self, opened: Context, tmp_path: Path, volume: str, label: str
    ) -> None:
        label_service = opened.label_service
        assert label_service is not None
        whole = "two-forms/submitted.nii.gz" if label.endswith(".nrrd") else label
        truth = np.asarray(nib.load(CASES / whole).dataobj)
        label_service.submit(volume, CASES / label, me, {})
        line = label_service.reviews.history(volume)[-1]
        assert line.file is not None
        np.testing.assert_array_equal(read_label(line.file).array, truth)
        assert set(line.organs) == set(ORGAN_IDS)
        # That these are the right voxels, the CT says: soft tissue, of which the air is none.
        ct = read_ct(opened.studies.image_path(volume)).array
        inside = [ct[truth == number].mean() for number in range(1, 10)]
        assert np.median(inside) > 30

    def test_json_is_what_it_must_be(self, opened: Context) -> None:
        store = datastore_of(opened)
        for name in store.list_images():
            store.studies.remarks(name)
        json.dumps(opened.remarks())
        assert opened.remarks()["count"] == 5
