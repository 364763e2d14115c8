"""`atlas8k evaluate`, `compare`, `quality` and `cross` as a user runs them."""

import csv
import re

import numpy as np
import pytest
import typer
from tests.headers import write_header
from typer.testing import CliRunner

from abdomen_phantom import generate
from atlas8k.cli.compare import compare
from atlas8k.cli.cross import cross
from atlas8k.cli.evaluate import evaluate
from atlas8k.cli.quality import quality
from atlas8k.core.errors import Atlas8kError
from atlas8k.core.volume import Grid, write_nifti
from atlas8k.reports.results import read_results, write_results

app = typer.Typer()
for command in (compare, cross, evaluate):
    app.command()(command)
app.add_typer(quality, name="quality")


def run(*arguments, fails="", code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if fails:
        assert isinstance(result.exception, Atlas8kError), result.output
        assert re.search(fails, str(result.exception)), str(result.exception)
    else:
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
    return result


@pytest.fixture
def networks(tmp_path, make_results):
    for n, (name, level) in enumerate((("good", 0.9), ("bad", 0.6))):
        write_results(tmp_path / name / "dsc.csv", make_results(name, level, seed=n))
    return tmp_path / "good", tmp_path / "bad"


def test_evaluate_is_told_how_axes_run_of_files_that_do_not_say_it(tmp_path):
    """What its refusal advises works: maps without geometry, on either side or on both."""
    label = generate(3, grid_spacing_mm=8.0).label
    affine = np.diag([-8.0, -8.0, 8.0, 1.0])
    affine[:3, 3] = 100, 120, -300
    (tmp_path / "placed").mkdir()
    write_nifti(tmp_path / "placed" / "c.nii.gz", label.array, Grid(label.array.shape, affine))
    write_header(tmp_path / "bare.nii.gz", affine, affine, (0, 0), np.asarray(label.array))
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare.nii.gz").rename(tmp_path / "bare" / "c.nii.gz")
    for pred, truth in (("bare", "placed"), ("placed", "bare"), ("bare", "bare")):
        folders = tmp_path / pred, tmp_path / truth, "--out", tmp_path / f"{pred}-{truth}"
        run("evaluate", *folders, fails="--orientation RAS .* evaluate")
        run("evaluate", *folders, "--orientation", "LPS")
        found = read_results(tmp_path / f"{pred}-{truth}" / "dsc.csv")
        np.testing.assert_array_equal(found.values[np.isfinite(found.values)], 1.0)
        run("evaluate", *folders, "--orientation", "LAS", "--resample")
        found = read_results(tmp_path / f"{pred}-{truth}" / "dsc.csv")
        assert (np.nanmin(found.values) < 0.5) == (pred != truth)
    result = CliRunner().invoke(app, ["evaluate", "a", "b", "--orientation", "XYZ"])
    assert result.exit_code == 2


@pytest.fixture
def bare(tmp_path):
    """Folders with one case: CT and label that say how their axes run, and that do not."""
    phantom = generate(2, grid_spacing_mm=9.0)
    affine = np.diag([-9.0, -9.0, 9.0, 1.0])
    affine[:3, 3] = 100, 120, -300
    for name, array in (("ct", phantom.ct.array), ("label", phantom.label.array)):
        for folder in (tmp_path / name, tmp_path / f"bare-{name}"):
            folder.mkdir()
        write_nifti(tmp_path / name / "c.nii.gz", array, Grid(array.shape, affine))
        write_header(tmp_path / "x.nii.gz", affine, affine, (0, 0), np.asarray(array))
        (tmp_path / "x.nii.gz").rename(tmp_path / f"bare-{name}" / "c.nii.gz")
    return tmp_path


def test_agreement_is_told_how_axes_run(bare):
    raters = bare / "label", bare / "bare-label", "--out", bare / "out"
    run("quality", "agreement", *raters, fails="--orientation RAS .* quality")
    result = run("quality", "agreement", *raters, "--orientation", "LPS")
    assert re.search(r"^bare-label +100.0 *$", result.output, re.MULTILINE)


def test_cross_is_told_how_axes_run(bare):
    pytest.importorskip("torch")
    from tests.models.tiny import tiny

    from atlas8k.models.checkpoint import save_checkpoint

    save_checkpoint(bare / "net.safetensors", tiny(spacing=9.0))
    train = "--train", f"net={bare / 'net.safetensors'}"
    for kind, more in (("", []), ("bare-", ["--orientation", "LPS"])):
        test = "--test", f"set={bare / f'{kind}ct'},{bare / f'{kind}label'}"
        run("cross", bare / f"r{kind}", *train, *test, *more)
    found, want = (read_results(bare / f"r{kind}" / "net" / "set") for kind in ("bare-", ""))
    np.testing.assert_array_equal(found.values, want.values)
    test = "--test", f"set={bare / 'bare-ct'},{bare / 'bare-label'}"
    run("cross", bare / "refused", *train, *test, fails="no case of set could be run")


def test_compare_writes_page_and_tables(networks, tmp_path):
    meta = tmp_path / "meta.csv"
    rows = [f"c{n:04d},{20 + n},{'fm'[n % 2]},x" for n in range(40)]
    meta.write_text("\n".join(["name,age,sex,note", *rows]))
    out = tmp_path / "out"
    result = run("compare", *networks, "--metadata", meta, "--out", out, "--samples", 50,
                 "--bins", "age=40")  # fmt: skip
    assert "no NSD" in result.output
    assert "groups by age, sex; other columns: note" in result.output
    assert "**" in result.output
    page = (out / "report.html").read_text()
    assert "By age" in page
    assert "&lt; 40" in page
    with open(out / "tables" / "dsc-summary.csv", encoding="utf-8") as stream:
        rows = {(r["network"], r["class"]): r for r in csv.DictReader(stream)}
    assert float(rows["good", "liver"]["mean"]) > 0.8
    assert rows["good", "average"]["winner"] == "1"
    assert rows["bad", "average"]["winner"] == "0"


def test_compare_takes_the_folder_above_its_networks(networks, tmp_path):
    (tmp_path / "notes").mkdir()
    result = run("compare", tmp_path, "--out", tmp_path / "out", "--samples", 20)
    assert f"networks: {networks[1]}, {networks[0]}" in result.output
    assert "good" in (tmp_path / "out" / "report.html").read_text()
    run("compare", tmp_path / "notes", fails=r"has no dsc\.csv")


def test_compare_leaves_out_rows_that_sum_up_the_cases(networks, tmp_path, caplog):
    plain = read_results(networks[0]).values
    with open(networks[0] / "dsc.csv", "a", encoding="utf-8") as stream:
        means = ",".join(f"{100 * mean:.1f}" for mean in np.nanmean(plain, axis=0))
        stream.write(f"Mean,{means}\nSTD{',5.0' * 9}\n")
    run("compare", *networks, "--out", tmp_path / "out", "--samples", 20)
    assert "left out: Mean, STD (40 cases are read)" in caplog.text
    assert "left out: Mean, STD (40 cases are read)" in (tmp_path / "out/report.html").read_text()


def test_evaluate_says_whose_the_truth_is(tmp_path):
    label = np.zeros((12, 12, 12), np.uint8)
    label[2:6, 2:6, 2:6], label[7:10, 7:10, 7:10] = 5, 14
    grid = Grid(label.shape, np.eye(4))
    for name in ("truth", "pred"):
        (tmp_path / name).mkdir()
    write_nifti(tmp_path / "truth" / "c.nii.gz", label, grid)
    write_nifti(tmp_path / "pred" / "c.nii.gz", np.where(label == 14, 9, label), grid)
    folders = [tmp_path / "pred", tmp_path / "truth"]
    run("evaluate", *folders, fails="--truth-dataset 'AbdomenAtlas 1.1'")
    result = run("evaluate", *folders, "--truth-dataset", "AbdomenAtlas 1.1")
    assert re.search(r"^stomach( +0)( +–){4} +1 *$", result.output, re.MULTILINE)
    only = [*folders, "--truth-dataset", "AbdomenAtlas 1.1", "--organs", "Liver,gall bladder"]
    result = run("evaluate", *only)
    assert re.search(r"^stomach( +0)( +–){5} *$", result.output, re.MULTILINE)
    assert re.search(r"^gall_bladder( +0)( +–){4} +0 *$", result.output, re.MULTILINE)
    assert run("evaluate", *folders, "--organs", "heart", code=2)
    assert run("evaluate", *folders, "--maps", tmp_path / "x.yaml", code=2)


def test_compare_refuses_what_it_cannot_use(networks, tmp_path, make_results):
    run("compare", *networks, tmp_path / "none", fails="no such file or folder")
    write_results(tmp_path / "other" / "dsc.csv", make_results("other", prefix="x"))
    run("compare", *networks, tmp_path / "other", fails="other has no case in common")
    bad = tmp_path / "percent.csv"
    bad.write_text("name,liver\nc0000,93.2\n")
    run("compare", networks[0], bad, fails=r"percent\.csv, row 2: .*percent")
    assert run("compare", *networks, "--metric", "iou", code=2)
    assert run("compare", *networks, "--metadata", bad, "--bins", "age", code=2)


def test_evaluate_then_compare(tmp_path):
    phantom = generate(1, grid_spacing_mm=6.0)
    for name, shift in (("truth", 0), ("near", 1), ("far", 4)):
        (tmp_path / name).mkdir()
        for n in range(3):
            label = np.roll(phantom.label.array, shift, axis=n)
            write_nifti(tmp_path / name / f"c{n}.nii.gz", label, phantom.label.grid)
    for name in ("near", "far"):
        result = run("evaluate", tmp_path / name, tmp_path / "truth", "--tolerance", 6.5)
        assert "tolerance 6.5 mm" in result.output
    near = read_results(tmp_path / "near-results", "nsd", "near")
    far = read_results(tmp_path / "far-results", "nsd", "far")
    assert np.nanmean(near.values) > np.nanmean(far.values)
    (tmp_path / "far" / "c1.nii.gz").write_bytes(b"broken")
    result = run("evaluate", tmp_path / "far", tmp_path / "truth", code=1)
    assert "c1" in result.output
    assert "c1" in (tmp_path / "far-results" / "failures.csv").read_text()


def test_quality_commands(networks, tmp_path):
    good, bad = networks
    result = run("quality", "rounds", bad, good, "--out", tmp_path / "q1")
    assert "****" in result.output
    result = run("quality", "training-sets", bad, good, "--out", tmp_path / "q2")
    assert (tmp_path / "q2" / "tables" / "training-sets-dsc.tex").is_file()
    assert "<table>" in (tmp_path / "q2" / "quality.html").read_text()
    assert run("quality", "rounds", bad, good, "--metric", "x", code=2)


def test_cross_from_folders(tmp_path, make_results):
    for train in ("P", "Q"):
        for test in ("A", "B"):
            write_results(tmp_path / "r" / train / test / "dsc.csv", make_results("x"))
    result = run("cross", tmp_path / "r")
    assert "mean±SD" in result.output
    assert (tmp_path / "r-cross" / "cross.html").is_file()
    assert run("cross", tmp_path / "r", "--train", "P=x", code=2)
    assert run("cross", tmp_path / "r", "--mirror", "xw", code=2)


def test_cross_runs_networks_with_and_without_mirroring(tmp_path):
    pytest.importorskip("torch")
    from tests.models.tiny import tiny

    from atlas8k.models.checkpoint import save_checkpoint

    phantom = generate(2, grid_spacing_mm=9.0)
    for folder, volume in (("ct", phantom.ct), ("label", phantom.label)):
        (tmp_path / folder).mkdir()
        write_nifti(tmp_path / folder / "c1.nii.gz", volume.array, volume.grid)
    save_checkpoint(tmp_path / "net.safetensors", tiny(spacing=9.0))
    values = {}
    for mirror in ("", "yz"):
        root = tmp_path / f"r{mirror}"
        train = f"net={tmp_path / 'net.safetensors'}"
        test = f"set={tmp_path / 'ct'},{tmp_path / 'label'}"
        run("cross", root, "--train", train, "--test", test, "--mirror", mirror)
        values[mirror] = read_results(root / "net" / "set").values
        assert read_results(root / "net" / "set", "nsd").cases == ("c1",)
    assert np.isfinite(values[""]).all()
    assert not np.array_equal(values[""], values["yz"])
    root = tmp_path / "rboth"
    result = run("cross", root, "--train", train, "--test", test, "--mirror", "yz", "--both")
    assert "net+yz" in result.output
    np.testing.assert_array_equal(read_results(root / "net" / "set").values, values[""])
    np.testing.assert_array_equal(read_results(root / "net+yz" / "set").values, values["yz"])
    assert run("cross", root, "--train", train, "--test", test, "--both", code=2)


def test_cross_leaves_out_classes_that_a_network_does_not_know(tmp_path):
    pytest.importorskip("torch")
    from tests.models.tiny import tiny

    from atlas8k.models.checkpoint import save_checkpoint

    phantom = generate(2, grid_spacing_mm=9.0)
    for folder, volume in (("ct", phantom.ct), ("label", phantom.label)):
        (tmp_path / folder).mkdir()
        write_nifti(tmp_path / folder / "c1.nii.gz", volume.array, volume.grid)
    few = ("liver", "spleen")
    save_checkpoint(tmp_path / "few.safetensors", tiny(spacing=9.0, organs=few))
    save_checkpoint(tmp_path / "all.safetensors", tiny(spacing=9.0))
    networks = [f"--train={name}={tmp_path / name}.safetensors" for name in ("few", "all")]
    result = run(
        "cross", tmp_path / "r", *networks, "--test", f"s={tmp_path / 'ct'},{tmp_path / 'label'}"
    )
    assert "mean over the 2 classes shared (liver, spleen)" in result.output
    found = read_results(tmp_path / "r" / "few" / "s")
    assert [o for o, v in zip(found.organs, found.values[0], strict=True) if np.isfinite(v)] == [
        *few
    ]
