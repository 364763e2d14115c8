"""`atlas8k labels import` as a user runs it, on phantoms and on what goes wrong."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import typer
from tests.headers import write_header
from tests.services.exporting.kit import mixed
from typer.testing import CliRunner, Result

from abdomen_phantom import generate
from atlas8k.cli.labels import labels
from atlas8k.core.errors import Atlas8kError
from atlas8k.core.grid import Volume
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.core.volume import read_label, to_canonical, write_nifti
from atlas8k.services.studies.folder import StudiesFolder
from atlas8k.store import Holder, Ledger, OrganScore, OrganSource, locate

app = typer.Typer()
app.add_typer(labels, name="labels")

AMOS = {
    "spleen": 1, "kidney_right": 2, "kidney_left": 3, "gall_bladder": 4, "liver": 6,
    "stomach": 7, "aorta": 8, "postcava": 9, "pancreas": 10,
}  # fmt: skip
FLARE = {
    "liver": 1, "kidney_right": 2, "spleen": 3, "pancreas": 4, "aorta": 5, "postcava": 6,
    "gall_bladder": 9, "stomach": 11, "kidney_left": 13,
}  # fmt: skip


def run(*arguments: object, code: int = 0, fails: str = "") -> Result:
    result = CliRunner().invoke(app, ["labels", *(str(a) for a in arguments)])
    if fails:
        assert isinstance(result.exception, Atlas8kError), result.output
        assert re.search(fails, str(result.exception)), result.exception
        return result
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def patients() -> list[tuple[Volume, Volume]]:
    """CT and truth; the second has no gall bladder."""
    made = [generate(seed, grid_spacing_mm=6.0) for seed in (1000, 1005, 1006)]
    return [(phantom.ct, phantom.label) for phantom in made]


@pytest.fixture
def studies(tmp_path: Path, patients: list[tuple[Volume, Volume]]) -> Path:
    """``case_0`` to ``case_2``; the last in a folder of its own."""
    folder = tmp_path / "studies"
    (folder / "case_2").mkdir(parents=True)
    for number, (ct, _) in enumerate(patients):
        name = f"case_{number}.nii.gz" if number < 2 else "case_2/ct.nii.gz"
        write_nifti(folder / name, ct.array, ct.grid)
    return folder


def raw_of(truth: Volume, values: dict[str, int]) -> np.ndarray:
    raw = np.zeros_like(truth.array)
    for organ, value in values.items():
        raw[truth.array == ORGAN_IDS[organ]] = value
    return raw


@pytest.fixture
def dataset(tmp_path: Path, patients: list[tuple[Volume, Volume]]) -> Callable[..., Path]:
    """Writes raw labels of all patients as a dataset's folder."""

    def write(values: dict[str, int], name: str = "case_{}.nii.gz", under: str = "data") -> Path:
        folder = tmp_path / under
        folder.mkdir(exist_ok=True)
        for number, (_, truth) in enumerate(patients):
            write_nifti(folder / name.format(number), raw_of(truth, values), truth.grid)
        return folder

    return write


def book(studies: Path) -> Ledger:
    return Ledger(locate(str(studies)))


def public_of(studies: Path, volume: str) -> np.ndarray:
    return read_label(studies / "labels" / "public" / f"{volume}.nii.gz").array


def all_files(studies: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_ino)
        for path in (studies / "labels").rglob("*.nii.gz")
    }


def test_a_dataset_is_imported_and_again_without_change(
    studies: Path, dataset: Callable[..., Path], patients: list[tuple[Volume, Volume]]
) -> None:
    folder = dataset(AMOS)
    result = run("import", "amos22", folder, "--studies", studies)
    lines = result.stdout.splitlines()
    assert [line.split()[:2] for line in lines[:3]] == [
        ["imported", f"case_{n}.nii.gz:"] for n in range(3)
    ]
    assert "absent: gall_bladder" in lines[1]
    assert lines[3] == "AMOS22: 3 imported, 0 unchanged, 0 skipped (no CT), 0 refused"
    for number, (_, truth) in enumerate(patients):
        np.testing.assert_array_equal(public_of(studies, f"case_{number}"), truth.array)
    sources = book(studies).sources("case_1")
    assert sources["gall_bladder"] == OrganSource("public", "absent", "AMOS22")
    assert sources["liver"] == OrganSource("public", "present", "AMOS22")
    assert {*sources} == {*ORGAN_NAMES}
    before = all_files(studies)
    again = run("import", "AMOS22", folder, "--studies", studies)
    assert "0 imported, 3 unchanged" in again.stdout
    assert all_files(studies) == before


def test_the_start_label_is_the_public_one(
    studies: Path, dataset: Callable[..., Path], patients: list[tuple[Volume, Volume]]
) -> None:
    run("import", "AMOS22", dataset(AMOS), "--studies", studies)
    start = read_label(studies / "labels" / "original" / "case_0.nii.gz")
    np.testing.assert_array_equal(start.array, patients[0][1].array)
    assert start.grid.same_as(patients[0][0].grid)


def test_a_running_server_sees_it_and_ranks_without_it(
    studies: Path, dataset: Callable[..., Path]
) -> None:
    server, ledger = StudiesFolder(studies, watch=False), book(studies)
    server.refresh()
    ledger.sync_volumes(["case_0", "case_1", "case_2"])
    ledger.register_model_version("m0")
    ml = {"liver": 9.0, "spleen": 1.0}
    for volume in ("case_0", "case_1", "case_2"):
        ledger.record_score(
            volume, "m0", {organ: OrganScore(ml.get(organ, 0.0)) for organ in ORGAN_NAMES}
        )
    run("import", "LiTS", dataset({"liver": 1}), "--studies", studies)
    assert server.now().status()["label_tags"]["public"] == 3
    sample = ledger.next_sample(holder=Holder.identify(user="anna"), model_version="m0")
    assert sample is not None
    assert sample.attention_ml == 1.0
    # Volumes say where they come from, so that a client can ask for these alone.
    assert ledger.next_sample(holder=Holder.identify(user="ben"), source="LiTS") is not None
    assert ledger.next_sample(holder=Holder.identify(user="cat"), source="KiTS") is None
    server.close()


def test_each_bad_file_is_one_line_and_the_rest_goes_on(
    studies: Path, dataset: Callable[..., Path], patients: list[tuple[Volume, Volume]],
    tmp_path: Path,
) -> None:  # fmt: skip
    folder = dataset({"liver": 1})
    truth = patients[0][1]
    good, affine = raw_of(truth, {"liver": 1}), truth.grid.affine
    faults: dict[str, tuple[Callable[[Path], object], str]] = {
        "empty": (lambda p: p.write_bytes(b""), "empty"),
        "garbage": (lambda p: p.write_bytes(b"no image at all" * 99), "readable"),
        "zero": (lambda p: nib.save(nib.Nifti1Image(good * 0, affine), p), "every voxel is 0"),
        "grid": (lambda p: nib.save(nib.Nifti1Image(good, affine * 1.2), p), "grid|voxel"),
        "unknown": (lambda p: nib.save(nib.Nifti1Image(good * 3, affine), p), "value 3 is not"),
        "negative": (
            lambda p: nib.save(nib.Nifti1Image(-good.astype(np.int16), affine), p), "whole|negat",
        ),
        "fraction": (
            lambda p: nib.save(nib.Nifti1Image(good.astype(np.float32) / 2, affine), p), "whole",
        ),
        "nan": (lambda p: p.write_bytes(_nan_affine(good, affine)), "affine"),
    }  # fmt: skip
    ct = nib.load(studies / "case_0.nii.gz")
    for name, (write, _) in faults.items():
        nib.save(ct, studies / f"bad_{name}.nii")
        write(folder / f"bad_{name}.nii")
    (studies / "broken.nii").write_bytes(b"not a CT")
    nib.save(nib.Nifti1Image(good, affine), folder / "broken.nii")
    nib.save(nib.Nifti1Image(good, affine), folder / "elsewhere.nii")
    # An earlier good label of a file that is bad now.
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    nib.save(nib.Nifti1Image(good, affine), earlier / "bad_grid.nii")
    run("import", "LiTS", earlier, "--studies", studies)
    kept = public_of(studies, "bad_grid")
    report = tmp_path / "report.csv"
    result = run(
        "import", "LiTS", folder, "--studies", studies, "--report", report, code=1
    )  # fmt: skip
    assert "LiTS: 3 imported, 0 unchanged, 1 skipped (no CT), 9 refused" in result.stdout
    lines = {line.split()[1].rstrip(":"): line for line in result.stdout.splitlines()}
    for name, (_, reason) in faults.items():
        assert re.search(f"^refused .*{reason}", lines[f"bad_{name}.nii"]), lines[f"bad_{name}.nii"]
        assert "Traceback" not in lines[f"bad_{name}.nii"]
    assert lines["broken.nii"].startswith("refused")
    assert "looked for elsewhere" in lines["elsewhere.nii"]
    np.testing.assert_array_equal(public_of(studies, "bad_grid"), kept)
    rows = {row["file"]: row for row in csv.DictReader(report.open())}
    assert len(rows) == 13
    assert rows["case_0.nii.gz"]["liver"] == "present"
    assert rows["case_0.nii.gz"]["spleen"] == "unknown"
    assert rows["bad_unknown.nii"]["result"] == "refused"
    # What was refused left nothing behind.
    assert not (studies / "labels" / "public" / "bad_zero.nii.gz").exists()


def _nan_affine(array: np.ndarray, affine: np.ndarray) -> bytes:
    header = nib.Nifti1Image(array, affine).header
    header["sform_code"], header["qform_code"] = 1, 0
    header["srow_x"] = np.nan
    return bytes(header.binaryblock + b"\0" * 4 + array.tobytes(order="F"))


def test_voxels_of_any_organ_are_kept_as_such(
    studies: Path, dataset: Callable[..., Path], patients: list[tuple[Volume, Volume]]
) -> None:
    folder = dataset({**FLARE, "pancreas": 14})
    result = run("import", "FLARE'23", folder, "--studies", studies)
    assert "unknown: pancreas" in result.stdout
    _, truth = patients[0]
    mask = read_label(studies / "labels" / "public-unknown" / "case_0.nii.gz")
    np.testing.assert_array_equal(mask.array > 0, truth.array == ORGAN_IDS["pancreas"])
    sources = book(studies).sources("case_0")
    assert sources.get("pancreas", OrganSource("pseudo", "unknown")).source == "pseudo"
    assert sources["liver"].dataset == "FLARE23"
    assert "3 unchanged" in run("import", "FLARE23", folder, "--studies", studies).stdout
    # A dataset that knows the liver says nothing of them.
    run("import", "LiTS", dataset({"liver": 1}, under="lits"), "--studies", studies)
    assert (studies / "labels" / "public-unknown" / "case_0.nii.gz").exists()
    # The next release knows what they are.
    run("import", "FLARE23", dataset(FLARE), "--studies", studies)
    assert not (studies / "labels" / "public-unknown" / "case_0.nii.gz").exists()
    assert book(studies).sources("case_0")["pancreas"].state == "present"


def test_two_datasets_of_one_ct_each_say_what_they_know(
    studies: Path, dataset: Callable[..., Path], patients: list[tuple[Volume, Volume]]
) -> None:
    spleen = dataset({"spleen": 1}, under="spleen")
    pancreas = dataset({"pancreas": 1}, under="pancreas")
    run("import", "MSD09", spleen, "--studies", studies)
    run("import", "Pancreas-CT", pancreas, "--studies", studies)
    sources = book(studies).sources("case_0")
    assert sources["spleen"] == OrganSource("public", "present", "MSD09")
    assert sources["pancreas"] == OrganSource("public", "present", "Pancreas-CT")
    assert {o for o, s in sources.items() if s.source == "public"} == {"spleen", "pancreas"}
    truth = patients[0][1].array
    wanted = np.where(np.isin(truth, [ORGAN_IDS["spleen"], ORGAN_IDS["pancreas"]]), truth, 0)
    np.testing.assert_array_equal(public_of(studies, "case_0"), wanted)
    for name, folder in (("MSD09", spleen), ("Pancreas-CT", pancreas)):
        assert "3 unchanged" in run("import", name, folder, "--studies", studies).stdout


def test_kidneys_under_one_value_and_one_that_cannot_be_told(
    studies: Path, dataset: Callable[..., Path], patients: list[tuple[Volume, Volume]]
) -> None:
    folder = dataset({"liver": 1, "kidney_left": 4, "kidney_right": 4})
    raw = read_label(folder / "case_1.nii.gz")
    aorta = np.argwhere(patients[1][1].array == ORGAN_IDS["aorta"]).mean(0).astype(int)
    raw.array[raw.array == 4] = 0
    raw.array[tuple(slice(at - 3, at + 4) for at in aorta)] = 4
    write_nifti(folder / "case_1.nii.gz", raw.array, raw.grid)
    result = run("import", "CT-ORG", folder, "--studies", studies)
    assert re.search("case_1.* unknown: .*cannot be determined", result.stdout)
    kidneys = [ORGAN_IDS["kidney_left"], ORGAN_IDS["kidney_right"]]
    truth = patients[0][1].array
    found = public_of(studies, "case_0")
    for kidney in kidneys:
        np.testing.assert_array_equal(found == kidney, truth == kidney)
    assert not np.isin(public_of(studies, "case_1"), kidneys).any()
    assert book(studies).sources("case_1")["liver"].source == "public"


def test_a_dry_run_keeps_nothing(studies: Path, dataset: Callable[..., Path]) -> None:
    result = run("import", "AMOS22", dataset(AMOS), "--studies", studies, "--dry-run")
    assert "3 to import" in result.stdout
    assert not list((studies / "labels").rglob("*.nii.gz"))
    assert book(studies).statuses() == {}


def test_several_processes_do_the_same(
    studies: Path, dataset: Callable[..., Path], patients: list[tuple[Volume, Volume]]
) -> None:
    result = run("import", "AMOS22", dataset(AMOS), "--studies", studies, "--jobs", 2)
    assert [line.split()[1] for line in result.stdout.splitlines()[:3]] == [
        f"case_{n}.nii.gz:" for n in range(3)
    ]
    for number, (_, truth) in enumerate(patients):
        np.testing.assert_array_equal(public_of(studies, f"case_{number}"), truth.array)
    assert "3 unchanged" in run("import", "AMOS22", dataset(AMOS), "--studies", studies).stdout


def test_names_that_differ(studies: Path, dataset: Callable[..., Path]) -> None:
    folder = dataset({"liver": 1}, name="liver{}_x.nii.gz")
    result = run("import", "LiTS", folder, "--studies", studies, code=1)
    assert "3 skipped" in result.stdout
    assert "--match" in result.stdout
    rule = r"liver(\d)_x=case_\1"
    result = run("import", "LiTS", folder, "--studies", studies, "--match", rule)
    assert "imported  liver0_x.nii.gz -> case_0: 1 organ;" in result.stdout
    result = run("import", "LiTS", folder, "--studies", studies, "--match", "[=x", code=2)
    assert "unterminated" in result.output
    folder = dataset({"liver": 1}, name="segmentation-{}.nii.gz", under="prefixed")
    result = run("import", "LiTS", folder, "--studies", studies, "--prefix", "case_")
    assert "3 unchanged" in result.stdout


def test_two_files_of_one_ct_are_both_refused(studies: Path, dataset: Callable[..., Path]) -> None:
    folder = dataset({"liver": 1})
    dataset({"liver": 2}, name="case_{}_seg.nii.gz")
    result = run("import", "LiTS", folder, "--studies", studies, code=1)
    assert "0 imported" in result.stdout
    assert re.search(
        r"refused +case_0.nii.gz: case_0_seg.nii.gz would be .* same CT", result.stdout
    )


def test_what_to_look_at_is_said(
    studies: Path, patients: list[tuple[Volume, Volume]], tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    _, truth = patients[0]
    raw = raw_of(truth, {**AMOS, "kidney_left": 2, "kidney_right": 3})
    write_nifti(folder / "case_0.nii.gz", raw, truth.grid)
    report = tmp_path / "report.csv"
    whole = ("--studies", studies, "--report", report, "--force")
    result = run("import", "AMOS22", folder, *whole)
    assert "look at: kidney_left mirrored, kidney_left laterality" in result.stdout
    assert "kidney_left mirrored 1" in result.stdout.splitlines()[-2]
    assert "left and right are swapped" in report.read_text()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("Liver things", "{data}"), "no such dataset"),
        (("MSD06", "{data}"), "none of the nine organs"),
        (("LiTS", "{tmp}/none"), "no such folder of label files"),
        (("LiTS", "{tmp}/nothing"), "holds no label file"),
        (("LiTS", "{data}", "--maps", "{tmp}/none.yaml"), "none.yaml: cannot be read"),
        (("LiTS", "{data}", "--studies", "{tmp}/none"), "no such folder of CTs"),
        (("LiTS", "{data}", "--report", "{tmp}/none/a.csv"), "its folder does not exist"),
    ],
)
def test_a_wrong_call(
    studies: Path, dataset: Callable[..., Path], tmp_path: Path,
    arguments: tuple[str, ...], reason: str,
) -> None:  # fmt: skip
    (tmp_path / "nothing").mkdir()
    data = dataset({"liver": 1})
    given = [a.format(data=data, tmp=tmp_path) for a in arguments]
    if "--studies" not in given:
        given += ["--studies", str(studies)]
    run("import", *given, fails=reason)


def test_the_list_of_datasets() -> None:
    text = run("datasets").stdout
    assert "KiTS" in text
    assert "AbdomenAtlas 1.1" in text


def test_two_imports_at_the_same_time_lose_nothing(
    studies: Path, dataset: Callable[..., Path], patients: list[tuple[Volume, Volume]]
) -> None:
    """Two commands on the same CTs, while a server has the folder open."""
    server = StudiesFolder(studies, watch=False)
    command = "from atlas8k.cli import main; main()"
    jobs = [("MSD09", "spleen"), ("Pancreas-CT", "pancreas"), ("LiTS", "liver")]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", command, "labels", "import", name,
             str(dataset({organ: 1}, under=organ)), "--studies", str(studies)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for name, organ in jobs
    ]  # fmt: skip
    for process in running:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
        assert "3 imported" in output
    organs = [ORGAN_IDS[organ] for _, organ in jobs]
    for number, (_, truth) in enumerate(patients):
        volume = f"case_{number}"
        wanted = np.where(np.isin(truth.array, organs), truth.array, 0)
        np.testing.assert_array_equal(public_of(studies, volume), wanted)
        public = {
            o: s.dataset for o, s in book(studies).sources(volume).items() if s[0] != "pseudo"
        }
        assert public == {organ: name for name, organ in jobs}
        start = read_label(studies / "labels" / "original" / f"{volume}.nii.gz")
        np.testing.assert_array_equal(start.array, wanted)
    assert server.now().status()["label_tags"]["original"] == 3
    server.close()


def test_an_atlas_with_labels_beside_the_cts(
    tmp_path: Path, patients: list[tuple[Volume, Volume]]
) -> None:
    """The studies folder is the dataset: one label map, or one mask an organ, in each case."""
    root = tmp_path / "atlas"
    for number, (ct, truth) in enumerate(patients[:2]):
        case = root / f"BDMAP_{number}"
        (case / "segmentations").mkdir(parents=True)
        write_nifti(case / "ct.nii.gz", ct.array, ct.grid)
        for organ in ("liver", "aorta"):
            mask = (truth.array == ORGAN_IDS[organ]).astype(np.uint8)
            write_nifti(case / "segmentations" / f"{organ}.nii.gz", mask, truth.grid)
    whole = patients[0][1]
    write_nifti(root / "BDMAP_0" / "combined_labels.nii.gz", whole.array, whole.grid)
    for result in ("imported", "unchanged"):
        lines = run("import", "AbdomenAtlas 1.1", root, "--studies", root).stdout.splitlines()
        assert lines[0].startswith(
            f"{result:9s} BDMAP_0/combined_labels.nii.gz -> BDMAP_0: 9 organs"
        )
        assert lines[1].startswith(f"{result:9s} BDMAP_1/segmentations -> BDMAP_1: 2 organs;")
    np.testing.assert_array_equal(public_of(root, "BDMAP_0"), whole.array)
    sources = book(root).sources("BDMAP_1")
    assert {o for o, s in sources.items() if s.source == "public"} == {"liver", "aorta"}


def test_an_organ_the_dataset_turns_out_not_to_label_is_public_no_more(
    studies: Path, dataset: Callable[..., Path], tmp_path: Path
) -> None:
    maps = tmp_path / "maps.yaml"
    folder = dataset({"liver": 1, "spleen": 2})
    maps.write_text("Ward: {values: {1: liver, 2: spleen}}")
    run("import", "ward", folder, "--studies", studies, "--maps", maps)
    assert book(studies).sources("case_0")["spleen"].source == "public"
    maps.write_text("Ward: {values: {1: liver}, other: [2]}")
    run("import", "ward", folder, "--studies", studies, "--maps", maps)
    sources = book(studies).sources("case_0")
    assert sources["liver"].source == "public"
    assert "spleen" not in sources or sources["spleen"].source == "pseudo"
    run("import", "ward", folder, "--studies", studies, "--maps", maps)


def test_headers_that_are_known_to_be_a_little_off(
    studies: Path, dataset: Callable[..., Path], patients: list[tuple[Volume, Volume]],
    tmp_path: Path,
) -> None:  # fmt: skip
    folder = dataset({"liver": 1})
    raw = raw_of(patients[0][1], {"liver": 1})
    for name, voxels in (("case_0", 0.04), ("case_1", 0.3)):
        truth = patients[int(name[-1])][1]
        affine = truth.grid.affine.copy()
        affine[:3, 3] += voxels * affine[:3, 0]
        nib.save(nib.Nifti1Image(raw_of(truth, {"liver": 1}), affine), folder / f"{name}.nii.gz")
    result = run("import", "LiTS", folder, "--studies", studies, code=1)
    lines = {line.split()[1].rstrip(":"): line for line in result.stdout.splitlines()}
    assert "its header is up to 0.040 voxels off the CT's; snapped" in lines["case_0.nii.gz"]
    assert re.search("^refused .*0.3 voxels off", lines["case_1.nii.gz"])
    assert "voxels off" not in lines["case_2.nii.gz"]
    np.testing.assert_array_equal(public_of(studies, "case_0"), 5 * raw)
    # Where that is known of the dataset, it is stated, and noted for each file.
    report = tmp_path / "report.csv"
    result = run(
        "import", "LiTS", folder, "--studies", studies, "--tolerance", 0.31, "--report", report
    )
    rows = {row["file"]: row for row in csv.DictReader(report.open())}
    assert "up to 0.300 voxels off" in rows["case_1.nii.gz"]["notes"]
    due = 5 * raw_of(patients[1][1], {"liver": 1})
    np.testing.assert_array_equal(public_of(studies, "case_1"), due)
    # Half a voxel would fit in two places.
    run("import", "LiTS", folder, "--studies", studies, "--tolerance", 0.5, code=2)


def test_label_files_without_geometry_are_refused_unless_their_axes_are_stated(
    studies: Path, dataset: Callable[..., Path], patients: list[tuple[Volume, Volume]]
) -> None:
    folder = dataset({"liver": 1})
    truth = patients[0][1]
    flipped = to_canonical(Volume(raw_of(truth, {"liver": 1}), truth.grid)).array[::-1, ::-1]
    path = folder / "case_0.nii.gz"
    write_header(path, None, None, (0, 0), flipped, {"pixdim": (6, 6, 6)})
    result = run("import", "LiTS", folder, "--studies", studies, code=1)
    assert re.search(r"refused +case_0\.nii\.gz: .*--orientation RAS", result.stdout)
    for name in ("case_1", "case_2"):
        (folder / f"{name}.nii.gz").unlink()
    run("import", "LiTS", folder, "--studies", studies, "--orientation", "LPS")
    due = 5 * raw_of(truth, {"liver": 1})
    np.testing.assert_array_equal(public_of(studies, "case_0"), due)
    run("import", "LiTS", folder, "--studies", studies, "--orientation", "LPX", code=2)


V1 = {
    "spleen": 1, "kidney_right": 2, "kidney_left": 3, "gall_bladder": 4, "liver": 5,
    "stomach": 6, "aorta": 7, "postcava": 8, "pancreas": 10,
}  # fmt: skip
V2 = {**V1, "pancreas": 7, "aorta": 52, "postcava": 63}


def nothing_written(studies: Path) -> None:
    assert not list(studies.rglob("labels/public/*"))
    assert not list(studies.rglob("labels/original/*"))


def test_another_versions_numbers_stop_before_anything_is_written(
    studies: Path, dataset: Callable[..., Path], patients: list[tuple[Volume, Volume]]
) -> None:
    folder = dataset(V1)
    for more in ((), ("--dry-run",), ("--jobs", "1")):
        result = run(
            "import", "TotalSegmentator v2", folder, "--studies", studies, *more,
            fails=r"nothing was imported: as labels of TotalSegmentator v2, 3 of 3 files",
        )  # fmt: skip
        said = str(result.exception)
        assert "case_0.nii.gz: aorta has no voxels beside the liver" in said
        assert "pancreas is" in said
        assert "the shape of the aorta or postcava" in said
        assert "Their numbers fit TotalSegmentator v1" in said
        assert "--force" in said
        nothing_written(studies)
    done = run("import", "TotalSegmentator v2", folder, "--studies", studies, "--force")
    assert "imported all the same (--force), 3 of 3 files" in done.stdout
    # Nobody lacks a great vessel: what the wrong numbers do not show is unknown, not absent.
    states = {o: s.state for o, s in book(studies).sources("case_0").items()}
    assert (states["aorta"], states["postcava"], states["pancreas"]) == (
        "unknown",
        "unknown",
        "present",
    )


@pytest.mark.parametrize(("numbers", "name"), [(V1, "v1"), (V2, "v2")])
def test_the_version_is_told_by_the_files(
    numbers: dict[str, int],
    name: str,
    studies: Path,
    dataset: Callable[..., Path],
    patients: list[tuple[Volume, Volume]],
) -> None:
    result = run("import", "TotalSegmentator", dataset(numbers), "--studies", studies)
    assert f"TotalSegmentator: these are labels of TotalSegmentator {name}" in result.stdout
    np.testing.assert_array_equal(public_of(studies, "case_0"), patients[0][1].array)
    source = book(studies).sources("case_0")["aorta"]
    assert source == OrganSource("public", "present", f"TotalSegmentator {name}")


def test_a_version_that_files_do_not_tell_is_asked_for(
    studies: Path, dataset: Callable[..., Path]
) -> None:
    folder = dataset({"liver": 1, "spleen": 3, "aorta": 5, "postcava": 6, "kidney_right": 2})
    result = run("import", "FLARE", folder, "--studies", studies, fails="say which")
    assert "'FLARE22' or 'FLARE23'" in str(result.exception)
    assert f"atlas8k labels import 'FLARE23' {folder}" in str(result.exception)
    nothing_written(studies)


def test_one_mirrored_file_of_many_stops_and_is_named(
    studies: Path, dataset: Callable[..., Path], patients: list[tuple[Volume, Volume]]
) -> None:
    folder = dataset(AMOS)
    truth = patients[1][1]
    write_nifti(folder / "case_1.nii.gz", raw_of(truth, AMOS)[::-1].copy(), truth.grid)
    result = run("import", "AMOS22", folder, "--studies", studies, fails="1 of 3 files")
    said = str(result.exception)
    assert "case_1.nii.gz" in said
    assert "situs inversus" in said
    assert "case_0.nii.gz" not in said
    nothing_written(studies)


def test_a_raw_set_of_nnunet_is_read_as_it_describes_itself(
    studies: Path, dataset: Callable[..., Path], patients: list[tuple[Volume, Volume]]
) -> None:
    values = {"liver": 2, "spleen": 5, "kidney_left": 1}
    folder = dataset(values, under="Dataset017_Ours")
    (folder / "labelsTr").mkdir()
    for path in folder.glob("*.nii.gz"):
        path.rename(folder / "labelsTr" / path.name)
    run("import", "ours", folder, "--studies", studies, fails="no such dataset")
    names = {"background": 0, "left kidney": 1, "Liver": 2, "tail": 3, "spleen": 5, "ignore": 6}
    (folder / "dataset.json").write_text(json.dumps({"labels": names}))
    out = run("import", "ours", folder, "--studies", studies)
    assert "3 imported" in out.stdout
    sources = book(studies).sources("case_0")
    assert sources["liver"] == OrganSource("public", "present", "ours")
    assert sources["aorta"] == OrganSource("pseudo", "unknown", "ours")
    expected = patients[0][1].array
    assert ((public_of(studies, "case_0") == ORGAN_IDS["liver"]) == (expected == 5)).all()
    # A dataset that is known by name, and a description that says something else.
    run("import", "AMOS22", folder, "--studies", studies, fails="is named")


def test_pants_as_it_is_downloaded(
    studies: Path, dataset: Callable[..., Path], patients: list[tuple[Volume, Volume]]
) -> None:
    values = {
        "aorta": 3, "gall_bladder": 11, "kidney_left": 12, "kidney_right": 13, "liver": 14,
        "pancreas": 18, "postcava": 22, "spleen": 24, "stomach": 25,
    }  # fmt: skip
    folder = dataset(values)
    for path in sorted(folder.glob("*.nii.gz")):
        case = folder / "LabelTr" / path.name.removesuffix(".nii.gz")
        case.mkdir(parents=True)
        path.rename(case / "combined_labels.nii.gz")
    assert "3 imported" in run("import", "PanTS", folder, "--studies", studies).stdout
    for number, (_, truth) in enumerate(patients):
        assert (public_of(studies, f"case_{number}") == truth.array).all()


def test_an_export_of_ours(tmp_path: Path, studies: Path) -> None:
    (tmp_path / "first").mkdir()
    first = mixed(tmp_path / "first")
    out = first.export(require="any").out
    own = tmp_path / "own"
    own.mkdir()
    for path in first.studies.glob("*.nii.gz"):
        shutil.copy2(path, own)
    assert "4 imported" in run("import", "Release", out, "--studies", own, "--dry-run").stdout
    assert not book(own).is_known("whole")
    assert "4 imported" in run("import", "Release", out, "--studies", own).stdout
    assert "4 unchanged" in run("import", "Release", out, "--studies", own).stdout
    assert book(own).sources("whole")["stomach"].source == "revised"
    (out / "whole/segmentations/liver.nii.gz").write_bytes(b"")
    done = run("import", "Release", out, "--studies", own, code=1)
    assert "1 refused" in done.stdout
    run("import", "Release", out, "--studies", studies, code=1)
    first.service.close()
