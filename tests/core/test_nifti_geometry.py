"""Where headers say that voxels lie: read as meant, named, or refused; never guessed."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from tests.headers import CASES, LPS, SHAPE, itk_affine, itk_voxels, voxels, write_header

from atlas8k.core.errors import GeometryError, NotFiniteError, UnreadableVolumeError
from atlas8k.core.grid import corner_gap
from atlas8k.core.nifti_geometry import check_stated, find_geometry, without_shear
from atlas8k.core.rewriting import rewrite
from atlas8k.core.volume import read_ct, read_geometry, read_grid, read_label

SHIFTED = LPS.copy()
SHIFTED[0, 3] += 30
MIRRORED = LPS @ np.diag([-1.0, 1, 1, 1])
MIRRORED[0, 3] = LPS[0, 3] + LPS[0, 0] * (SHAPE[0] - 1)
TILTED = LPS.copy()
TILTED[1, 2] = 3 * np.tan(np.deg2rad(12))
cases = pytest.mark.skipif(not CASES.is_dir(), reason="shared/cases is not here")


def kinds(path: Path) -> list[str]:
    return [remark.kind for remark in read_geometry(path).remarks]


@pytest.mark.parametrize("other", [SHIFTED, MIRRORED], ids=["shifted", "mirrored"])
@pytest.mark.parametrize("codes", [(1, 1), (2, 1), (1, 2), (4, 1)])
def test_two_forms_are_named_with_both_and_the_sform_is_read(
    tmp_path: Path, other: np.ndarray, codes: tuple[int, int]
) -> None:
    geometry = read_geometry(write_header(tmp_path / "ct.nii.gz", other, LPS, codes))
    np.testing.assert_allclose(geometry.grid.affine, other, atol=1e-4)
    assert [form.name for form in geometry.grid.forms] == ["qform"]
    np.testing.assert_allclose(geometry.grid.forms[0].affine, LPS, atol=1e-4)
    (remark,) = geometry.remarks
    assert (remark.kind, remark.level) == ("two_geometries", "warning")
    assert "qform: axes LPS, 2 x 2.5 x 3 mm, first voxel at (60, 40, -90) mm RAS" in remark.text
    first = "axes LPS" if other is SHIFTED else "axes RPS"
    assert f"sform: {first}" in remark.text
    assert not geometry.plain


def test_a_stated_form_is_the_one_that_is_read(tmp_path: Path) -> None:
    path = write_header(tmp_path / "ct.nii.gz", SHIFTED, LPS)
    for stated, due in (("qform", LPS), ("sform", SHIFTED)):
        geometry = read_geometry(path, stated=stated)
        np.testing.assert_allclose(geometry.grid.affine, due, atol=1e-4)
        assert (geometry.read_by, geometry.remarks[0].level) == (stated, "note")
        np.testing.assert_allclose(read_ct(path, stated=stated).grid.affine, due, atol=1e-4)
    with pytest.raises(GeometryError, match="RAS is stated, but its sform says LPS"):
        read_grid(path, stated="RAS")


def test_dust_between_two_forms_is_nothing(tmp_path: Path) -> None:
    oblique = LPS.copy()
    oblique[:3, :3] = (
        Rotation.from_euler("xyz", [7, 11, 13], degrees=True).as_matrix() @ LPS[:3, :3]
    )
    # Written as float32, the quaternion is off by some 1e-7; and a little more by hand.
    near = oblique.copy()
    near[:3, 3] += 0.04 * near[:3, 0]
    for sform in (oblique, near):
        geometry = read_geometry(write_header(tmp_path / "ct.nii", sform, oblique))
        assert geometry.plain
        assert geometry.remarks == ()


def test_a_sheared_form_is_true_and_served_without_its_shear(tmp_path: Path) -> None:
    served = without_shear(TILTED)
    np.testing.assert_allclose(served[:, 3], TILTED[:, 3])
    unit = served[:3, :3] / np.linalg.norm(served[:3, :3], axis=0)
    np.testing.assert_allclose(unit.T @ unit, np.eye(3), atol=1e-12)
    for qform, codes in ((TILTED, (1, 1)), (None, (1, 0))):  # nibabel takes the shear off a qform
        path = write_header(tmp_path / "ct.nii.gz", TILTED, qform, codes)
        geometry = read_geometry(path)
        np.testing.assert_allclose(geometry.grid.affine, TILTED, atol=1e-4)
        np.testing.assert_allclose(geometry.grid.served.affine, served, atol=1e-4)
        assert geometry.remarks[0].kind == "sheared"
        assert "sheared by 12.0 degrees" in geometry.remarks[0].text
        assert geometry.remarks[0].figures["mm"] == pytest.approx(
            np.linalg.norm((TILTED - served) @ [6, 5, 4, 1]), abs=0.01
        )
        assert not geometry.plain
    with pytest.raises(RuntimeError, match="orthonormal"):
        itk_affine(path)  # what it is about: 3D Slicer cannot open this one


@pytest.mark.parametrize(
    ("sform", "qform", "codes", "due", "remarks"),
    [
        pytest.param(LPS, None, (2, 0), LPS, [], id="sform only, as nibabel writes it"),
        pytest.param(None, LPS, (0, 1), LPS, [], id="qform only"),
        pytest.param(SHIFTED, LPS, (0, 1), LPS, ["unused_form"], id="sform of code 0"),
        pytest.param(SHIFTED, LPS, (1, 0), SHIFTED, ["unused_form"], id="qform of code 0"),
        pytest.param(LPS, LPS, (1, 0), LPS, [], id="the same of code 0"),
        pytest.param(LPS * np.nan, LPS, (1, 1), LPS, ["broken_form"], id="NaN in the sform"),
        pytest.param(LPS * 0, LPS, (1, 1), LPS, ["broken_form"], id="sform of zeros"),
    ],
)
def test_forms_that_are_not_in_use_or_cannot_be(
    tmp_path: Path,
    sform: np.ndarray | None,
    qform: np.ndarray | None,
    codes: tuple[int, int],
    due: np.ndarray,
    remarks: list[str],
) -> None:
    path = write_header(tmp_path / "ct.nii.gz", sform, qform, codes)
    geometry = read_geometry(path)
    np.testing.assert_allclose(geometry.grid.affine, due, atol=1e-4)
    assert kinds(path) == remarks
    assert geometry.plain is not remarks  # every one that is named is served anew
    assert geometry.plain == (not remarks)


def test_a_form_of_code_0_is_used_where_that_is_stated(tmp_path: Path) -> None:
    path = write_header(tmp_path / "ct.nii.gz", SHIFTED, None, (0, 0))
    with pytest.raises(
        GeometryError, match=r"its sform, marked as not in use, says axes LPS.*state sform"
    ):
        read_ct(path)
    np.testing.assert_allclose(read_grid(path, stated="sform").affine, SHIFTED, atol=1e-4)
    with pytest.raises(GeometryError, match="qform is stated, but it cannot be used: nothing"):
        read_grid(path, stated="qform")


@pytest.mark.parametrize("stated", ["RAS", "lps", "PIR", "SAL"])
def test_without_geometry_a_file_is_refused_unless_its_axes_are_stated(
    tmp_path: Path, stated: str
) -> None:
    path = write_header(tmp_path / "ct.nii.gz", None, None, (0, 0), fields={"pixdim": (2, 3, 4)})
    for reader in (read_ct, read_grid, read_label, read_geometry):
        with pytest.raises(
            GeometryError, match=r"(?s)ct\.nii\.gz.*--orientation RAS.*orientation\.yaml"
        ):
            reader(path)
    geometry = read_geometry(path, stated=check_stated(stated))
    assert geometry.grid.orientation == stated.upper()
    assert geometry.grid.spacing == (2, 3, 4)
    centre = geometry.grid.affine @ [*((np.array(SHAPE) - 1) / 2), 1]
    np.testing.assert_allclose(centre[:3], 0, atol=1e-9)
    assert [remark.level for remark in geometry.remarks] == ["note"]
    # A label drawn in a program that guesses is known by what it guessed.
    guesses = {form.name: form.affine for form in geometry.grid.forms}
    np.testing.assert_allclose(guesses["no geometry (ITK)"], itk_affine(path), atol=1e-4)
    np.testing.assert_allclose(guesses["no geometry (nibabel)"], nib.load(path).affine, atol=1e-4)


@pytest.mark.parametrize("ending", ["hdr", "img"])
def test_an_analyze_pair_is_refused_unless_its_axes_are_stated(tmp_path: Path, ending: str) -> None:
    for kind in (nib.AnalyzeImage, nib.Spm99AnalyzeImage):
        nib.save(kind(voxels(), np.diag([2.0, 3, 4, 1])), tmp_path / "ct.img")
        path = tmp_path / f"ct.{ending}"
        with pytest.raises(GeometryError, match="does not say where right"):
            read_ct(path)
        volume = read_ct(path, stated="LPS")
        assert volume.grid.orientation == "LPS"
        np.testing.assert_array_equal(volume.array, voxels())


def test_what_is_no_orientation_is_refused() -> None:
    for text in ("RA", "RAX", "RLS", "RRS", "", "RASS", "scanner"):
        with pytest.raises(ValueError, match="three letters"):
            check_stated(text)


@pytest.mark.parametrize(
    ("unit", "scale", "factor", "remark"),
    [
        ("mm", 1.0, 1.0, False),
        ("unknown", 1.0, 1.0, False),
        ("meter", 0.001, 1000.0, True),
        ("micron", 1000.0, 0.001, True),
        ("meter", 1.0, 1.0, True),  # voxels of 2 m: the unit is a slip
        ("micron", 1.0, 1.0, True),
    ],
)
def test_units_other_than_mm_are_converted_or_known_for_a_slip(
    tmp_path: Path, unit: str, scale: float, factor: float, remark: bool
) -> None:
    small = np.diag([scale, scale, scale, 1.0]) @ LPS
    path = write_header(tmp_path / "ct.nii.gz", small, small, unit=unit)
    geometry = read_geometry(path)
    np.testing.assert_allclose(geometry.grid.affine, LPS, rtol=1e-5, atol=1e-4)
    assert kinds(path) == (["units"] if remark else [])
    if remark:
        assert geometry.remarks[0].figures["factor_to_mm"] == factor
        # ITK takes the unit at its word (measured); a label drawn there is known by that.
        (literal,) = geometry.grid.forms
        np.testing.assert_allclose(literal.affine, itk_affine(path), rtol=1e-4, atol=1e-4)


def test_voxel_sizes_that_are_no_cts_are_refused(tmp_path: Path) -> None:
    for unit, scale in (("mm", 1e-3), ("unknown", 1e3), ("micron", 1e-3), ("meter", 1e3)):
        small = np.diag([scale, scale, scale, 1.0]) @ LPS
        with pytest.raises(GeometryError, match="are no CT's"):
            read_grid(write_header(tmp_path / "ct.nii", small, small, unit=unit))


@pytest.mark.parametrize("size", [(0, 2.5, 3), (-2, 2.5, 3), (np.nan, 2.5, 3), (1, 1, 1)])
def test_a_voxel_size_that_cannot_be_is_named_where_the_sform_says_it_and_else_refused(
    tmp_path: Path, size: tuple[float, ...]
) -> None:
    both = write_header(tmp_path / "both.nii.gz", LPS, LPS, (1, 1), fields={"pixdim": size})
    np.testing.assert_allclose(read_grid(both).affine, LPS, atol=1e-4)
    assert kinds(both) == [("two_geometries" if size == (1, 1, 1) else "broken_form")]
    alone = write_header(tmp_path / "sform.nii.gz", LPS, None, (1, 0), fields={"pixdim": size})
    np.testing.assert_allclose(read_grid(alone).affine, LPS, atol=1e-4)
    assert kinds(alone) == ["voxel_size"]
    if size != (1, 1, 1):
        qform = write_header(tmp_path / "q.nii.gz", None, LPS, (0, 1), fields={"pixdim": size})
        with pytest.raises(NotFiniteError, match=r"voxel size|NaN"):
            read_ct(qform)


@pytest.mark.parametrize(
    ("name", "packed"),
    [("ct.nii", True), ("ct.nii.gz", False), ("ct.NII.GZ", True), ("ct.NII", False)],
)
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_how_a_file_is_packed_its_first_bytes_say(
    tmp_path: Path, name: str, packed: bool, kind: type
) -> None:
    path = write_header(tmp_path / name, packed=packed, kind=kind)
    volume = read_ct(path)
    np.testing.assert_array_equal(volume.array, voxels())
    np.testing.assert_allclose(volume.grid.affine, LPS, atol=1e-4)
    copy = rewrite(path, tmp_path / "served.nii.gz", volume.grid)
    np.testing.assert_array_equal(itk_voxels(copy), voxels())


def test_a_damaged_file_is_not_rewritten(tmp_path: Path) -> None:
    path = write_header(tmp_path / "ct.nii.gz", SHIFTED, LPS)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UnreadableVolumeError, match="damaged"):
        rewrite(path, tmp_path / "served.nii.gz", read_grid(path).served)
    assert [p.name for p in tmp_path.iterdir()] == ["ct.nii.gz"]


def random_header(rng: np.random.Generator, path: Path) -> Path:
    """A header of any forms, codes, sizes and units."""
    base = np.eye(4)
    turn = Rotation.random(random_state=int(rng.integers(1 << 30))).as_matrix()
    axes = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], 3)
    size = rng.uniform(0.4, 6, 3)
    base[:3, :3] = (turn if rng.random() < 0.4 else axes) * size
    base[:3, 3] = rng.uniform(-900, 900, 3)
    other = base.copy()
    change = rng.integers(6)
    if change == 1:
        other[rng.integers(3), 3] += rng.choice([0.001, 0.3, 30]) * rng.choice([-1, 1])
    elif change == 2:
        other[:3, 0] *= -1
    elif change == 3:
        other[:3, rng.integers(3)] *= rng.choice([1.0001, 1.02])
    elif change == 4:
        other[:3, 2] += rng.choice([1e-6, 1e-3, 0.05, 0.3]) * base[:3, 1]
    elif change == 5:
        other = other @ np.diag([rng.choice([np.nan, 0, 1]), 1, 1, 1])
    fields = {} if rng.random() < 0.8 else {"pixdim": rng.choice([0, -1, 1, 2.5], 3)}
    codes = (int(rng.choice([0, 1, 1, 2, 4])), int(rng.choice([0, 1, 1, 2])))
    unit = str(rng.choice(["mm", "mm", "mm", "unknown", "micron", "meter"]))
    return write_header(path, other, base, codes, fields=fields, unit=unit)


def test_of_300_headers_none_is_read_in_two_ways_without_a_word(tmp_path: Path) -> None:
    """Plain: ITK and nibabel read what is read here. Else named, and the copy is read alike."""
    rng = np.random.default_rng(8)
    seen = {"plain": 0, "named": 0, "refused": 0}
    for number in range(300):
        path = random_header(rng, tmp_path / f"{number}.nii")
        try:
            geometry = read_geometry(path)
        except (GeometryError, NotFiniteError):
            seen["refused"] += 1
            continue
        grid = geometry.grid
        if geometry.plain:
            seen["plain"] += 1
            shown = path
            assert geometry.remarks == ()
        else:
            seen["named"] += 1
            # Served anew without a word only for a shear that is dust, which ITK refuses.
            slight = corner_gap(grid.affine, without_shear(grid.affine), grid.shape) > 1e-4
            assert geometry.remarks or slight
            shown = rewrite(path, tmp_path / "served.nii", grid.served)
            np.testing.assert_array_equal(itk_voxels(shown), voxels())
        for affine in (itk_affine(shown), nib.load(shown).affine):
            assert corner_gap(grid.served.affine, affine, grid.shape) < 0.051, number
    assert min(seen.values()) > 20, seen


@cases
@pytest.mark.parametrize(
    ("name", "kind", "forms"),
    [
        ("two-forms/twoforms.nii.gz", "two_geometries", ["qform"]),
        ("two-forms/mirrorforms.nii.gz", "two_geometries", ["qform"]),
        ("sheared/tilt05.nii.gz", "sheared", ["served"]),
        ("sheared/tilt12.nii.gz", "sheared", ["served"]),
        ("sheared/tilt12_sform_only.nii.gz", "sheared", ["served", "voxel size"]),
    ],
)
def test_files_that_were_got_wrong(tmp_path: Path, name: str, kind: str, forms: list[str]) -> None:
    path = CASES / name
    geometry = read_geometry(path)
    assert geometry.remarks[0].kind == kind
    assert [form.name for form in geometry.grid.forms] == forms
    copy = rewrite(path, tmp_path / "served.nii.gz", geometry.grid.served)
    np.testing.assert_allclose(itk_affine(copy), geometry.grid.served.affine, atol=1e-3)
    np.testing.assert_array_equal(itk_voxels(copy), np.asarray(nib.load(path).dataobj))


def test_a_quaternion_near_half_a_turn_is_rounded_and_no_second_geometry(tmp_path):
    """As of axes IPL, a little oblique: its qform is 0.2 mm off, whoever writes it."""
    turn = np.array([[0.0, 0, -1], [0, -1, 0], [-1, 0, 0]])
    tilt = np.deg2rad(0.03)
    oblique = np.array(
        [[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]]
    )
    affine = np.eye(4)
    affine[:3, :3] = oblique @ turn * [5.0, 1.27, 1.27]
    affine[:3, 3] = 179.1, 117.6, 125.2
    image = nib.Nifti1Image(np.zeros((60, 300, 300), np.int16), affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    path = tmp_path / "ct.nii.gz"
    nib.save(image, path)
    header = nib.load(path).header
    gap = np.abs(header.get_qform() - affine).max()
    assert gap > 1e-5  # the form is rounded
    found = find_geometry(header, (60, 300, 300), path)
    assert not found.remarks
    turned = affine.copy()
    turned[:3, :3] = oblique @ oblique @ oblique @ turn * [5.0, 1.27, 1.27]
    image.set_qform(turned, 1)
    nib.save(image, path)
    (remark,) = find_geometry(nib.load(path).header, (60, 300, 300), path).remarks
    assert remark.kind == "two_geometries"
