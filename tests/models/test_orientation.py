"""Networks whose training volumes lay one way or another: settled, asked for, or found out."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.models.parity.results import PLANS, results_folder
from tests.models.test_importing_bundle import CONFIG, bundle, unet
from tests.models.tiny import tiny
from typer.testing import CliRunner

from atlas8k.cli import app
from atlas8k.core.errors import CheckpointError
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import Grid, Volume, write_nifti
from atlas8k.models.checkpoint import Checkpoint, Preprocessing
from atlas8k.models.importing import Options, OrientationUnknownError, import_weights
from atlas8k.models.importing.orientation import ORIENTATIONS, Trial, clear_winner, try_orientations
from atlas8k.models.predict import Predictor
from atlas8k.models.store import ModelStore


def plans_with(reader):
    plans = {key: value for key, value in PLANS.items() if key != "image_reader_writer"}
    return plans if reader is None else {**plans, "image_reader_writer": reader}


@pytest.mark.parametrize("reader", ["NibabelIOWithReorient", "SimpleITKIOWithReorient"])
def test_readers_that_turn_volumes_settle_it(reader, tmp_path):
    folder = results_folder(tmp_path, plans=plans_with(reader))
    assert import_weights(folder).checkpoint.preprocessing.orientation == "RAS"


@pytest.mark.parametrize("reader", ["SimpleITKIO", "NibabelIO", "MyOwnReader", None])
def test_other_readers_leave_it_open_and_the_message_says_what_to_type(reader, tmp_path):
    folder = results_folder(tmp_path, plans=plans_with(reader))
    with pytest.raises(OrientationUnknownError) as asked:
        import_weights(folder)
    said = str(asked.value)
    assert str(folder / "plans.json") in said
    assert (reader or "no reader") in said
    assert f"atlas8k weights import {folder} --orientation LPS" in said
    assert f"atlas8k weights import {folder} --find-orientation CT.nii.gz --label" in said
    given = import_weights(folder, None, Options(orientation="LPS")).checkpoint
    assert given.preprocessing.orientation == "LPS"


def without_orientation(**step):
    config = json.loads(json.dumps(CONFIG))
    steps = config["preprocessing"]["transforms"]
    steps[:] = [s for s in steps if s["_target_"] != "Orientationd"]
    if step:
        steps.insert(1, {"_target_": "Orientationd", "keys": "image", **step})
    return config


def test_a_bundle_without_orientationd_asks(tmp_path):
    root = bundle(tmp_path / "spleen", unet(), without_orientation())
    with pytest.raises(OrientationUnknownError, match="no Orientationd") as asked:
        import_weights(root)
    assert f"atlas8k weights import {root} --orientation" in str(asked.value)
    given = import_weights(root, None, Options(orientation="LAS")).checkpoint
    assert given.preprocessing.orientation == "LAS"


@pytest.mark.parametrize(
    ("step", "found"),
    [({"axcodes": "LPS"}, "LPS"), ({"as_closest_canonical": True}, "RAS")],
)
def test_a_bundles_orientationd_settles_it(step, found, tmp_path):
    root = bundle(tmp_path / "b", unet(), without_orientation(**step))
    assert import_weights(root).checkpoint.preprocessing.orientation == found


def test_letters_of_its_own_settle_nothing(tmp_path):
    labels = [["R", "L"], ["A", "P"], ["I", "S"]]
    config = without_orientation(axcodes="RAS", labels=labels)
    with pytest.raises(OrientationUnknownError, match="labels"):
        import_weights(bundle(tmp_path / "b", unet(), config))


@pytest.fixture(scope="module")
def sided() -> tuple[Checkpoint, Volume, np.ndarray]:
    """A network of two organs that goes by sides, a CT, and the organs it finds as it should.

    One filter of 15 voxels along every axis: an organ lies where what is to its first side,
    behind and below is brighter than what is opposite.
    """
    checkpoint = tiny("unet", organs=("liver", "spleen"), window=(32, 32, 32), gain=40.0, seed=3)
    checkpoint = replace(
        checkpoint, preprocessing=Preprocessing((6.0,) * 3, (-175, 250), (32, 32, 32))
    )
    rng = np.random.default_rng(1)
    array = rng.normal(40, 120, (32, 28, 30)).astype(np.float32)
    grid = Grid(array.shape, np.diag([-6.0, -6.0, 6.0, 1.0]))
    ct = Volume(array, grid)
    lying = replace(checkpoint, preprocessing=replace(checkpoint.preprocessing, orientation="LPS"))
    truth = Predictor({"unet": lying}).predict(ct).label_on(grid)
    return checkpoint, ct, truth


def test_all_eight_are_tried_and_the_right_one_leads(sided):
    checkpoint, ct, truth = sided
    trials = try_orientations(checkpoint, ct, truth)
    assert {trial.orientation for trial in trials} == {*ORIENTATIONS}
    assert len(ORIENTATIONS) == 8
    assert trials[0].orientation == "LPS"
    assert trials[0].mean == 1.0
    assert trials[1].mean < 0.9
    assert clear_winner(trials) == "LPS"


@pytest.mark.parametrize(
    ("means", "found"),
    [
        ((0.92, 0.30), "RAS"),
        ((0.92, 0.82), "RAS"),
        ((0.92, 0.83), None),
        ((0.49, 0.10), None),
        ((0.50, 0.39), "RAS"),
    ],
)
def test_it_is_picked_only_when_no_doubt_is_left(means, found):
    trials = [Trial(o, {"liver": m}) for o, m in zip(ORIENTATIONS, means, strict=False)]
    assert clear_winner(trials) == found


def test_a_label_without_its_organs_says_so(sided):
    checkpoint, ct, truth = sided
    with pytest.raises(CheckpointError, match="none of them"):
        try_orientations(
            checkpoint, ct, np.where(truth > 0, ORGAN_IDS["aorta"], 0).astype(np.uint8)
        )


def as_bundle(root, checkpoint):
    """The checkpoint's own network as a bundle without Orientationd."""
    described = {k: v for k, v in checkpoint.architecture.items() if k not in ("name",)}
    config = without_orientation()
    config["roi"]["size"] = [32, 32, 32]
    config["network_def"] = {
        "_target_": "UNet",
        "spatial_dims": 3,
        "in_channels": 1,
        "norm": ["INSTANCE", {"affine": True}],
        **described,
    }
    for step in config["preprocessing"]["transforms"]:
        if step["_target_"] == "Spacingd":
            step["pixdim"] = [6.0, 6.0, 6.0]
        if step["_target_"] == "ScaleIntensityRanged":
            step.update(a_min=-175, a_max=250)
    config["postprocessing"]["transforms"] = [{"_target_": "Activationsd", "sigmoid": True}]
    module = torch.nn.Module()
    module.state_dict = lambda: dict(checkpoint.state)
    return bundle(root, module, config, {"0": "liver", "1": "spleen"})


def run(*arguments):
    return CliRunner().invoke(app, ["weights", *map(str, arguments)])


def test_the_command_asks_finds_and_imports(sided, tmp_path):
    checkpoint, ct, truth = sided
    root = as_bundle(tmp_path / "organs", checkpoint)
    models = tmp_path / "model"
    asked = run("import", root, "--models", models)
    assert isinstance(asked.exception, OrientationUnknownError)
    assert not models.exists()
    file = write_nifti(tmp_path / "ct.nii.gz", ct.array, ct.grid)
    label = write_nifti(tmp_path / "label.nii.gz", truth, ct.grid)
    found = run("import", root, "--models", models, "--find-orientation", file, "--label", label)
    assert found.exit_code == 0, found.output
    assert "LPS" in found.stdout
    assert "orientation LPS: it leads by" in found.stdout
    for orientation in ORIENTATIONS:
        assert orientation in found.stdout
    assert ModelStore(models).load_imported("organs").preprocessing.orientation == "LPS"


def test_the_active_networks_serve_where_there_is_no_label(sided, tmp_path):
    checkpoint, ct, _ = sided
    lying = replace(checkpoint, preprocessing=replace(checkpoint.preprocessing, orientation="LPS"))
    models = tmp_path / "model"
    ModelStore(models).publish({"unet": lying})
    root = as_bundle(tmp_path / "organs", checkpoint)
    file = write_nifti(tmp_path / "ct.nii.gz", ct.array, ct.grid)
    found = run("import", root, "--models", models, "--find-orientation", file)
    assert found.exit_code == 0, found.output
    assert "the active networks (unet)" in " ".join(found.stdout.split())
    assert "orientation LPS" in found.stdout


def test_in_doubt_nothing_is_imported(sided, tmp_path):
    checkpoint, ct, truth = sided
    root = as_bundle(tmp_path / "organs", checkpoint)
    file = write_nifti(tmp_path / "ct.nii.gz", ct.array, ct.grid)
    wrong = np.roll(truth, 9, axis=0)
    label = write_nifti(tmp_path / "label.nii.gz", wrong, ct.grid)
    models = tmp_path / "model"
    doubt = run("import", root, "--models", models, "--find-orientation", file, "--label", label)
    assert isinstance(doubt.exception, CheckpointError)
    assert "no orientation is clearly the best" in str(doubt.exception)
    assert f"atlas8k weights import {root} --orientation" in str(doubt.exception)
    assert "mean" in doubt.stdout
    assert not models.exists()


@pytest.mark.parametrize("given", ["SRA", "XYZ", "RA", "LPSS"])
def test_what_is_no_orientation_is_said(given, tmp_path):
    refused = run("import", results_folder(tmp_path), "--orientation", given)
    assert refused.exit_code == 2
    assert "such as LPS" in " ".join(refused.output.split())
