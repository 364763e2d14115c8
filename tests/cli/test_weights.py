"""``atlas8k weights``: import, list, publish, and a refusal in one line."""

import json

import pytest
import torch
from tests.models.parity.seeded import state
from tests.models.tiny import tiny
from typer.testing import CliRunner

from atlas8k.cli import app
from atlas8k.core.errors import CheckpointError
from atlas8k.models.networks import build
from atlas8k.models.store import ModelStore

ARCHITECTURE = {
    "name": "segresnet",
    "init_filters": 16,
    "blocks_down": [1, 2, 2, 4],
    "blocks_up": [1, 1, 1],
    "out_channels": 32,
}


@pytest.fixture
def file(tmp_path):
    tensors = state({k: v.shape for k, v in build(ARCHITECTURE).state_dict().items()})
    path = tmp_path / "supervised_suprem_segresnet_2100.pth"
    torch.save({"net": {f"module.{k}": v for k, v in tensors.items()}}, path)
    return path


def run(*arguments):
    return CliRunner().invoke(app, ["weights", *map(str, arguments)], catch_exceptions=True)


def listed(models):
    return {
        row["name"]: row for row in json.loads(run("list", "--json", "--models", models).stdout)
    }


def test_import_list_publish(file, tmp_path):
    models = tmp_path / "model"
    ModelStore(models).publish({"unet": tiny("unet"), "nnunet": tiny("nnunet")})
    before = ModelStore(models).served().model_version
    result = run("import", file, "--as", "segresnet", "--models", models)
    assert result.exit_code == 0, result.output
    assert "all 83 tensors" in result.stdout
    assert "colon" in result.stdout  # what is not used is said
    assert ModelStore(models).served().model_version == before
    rows = listed(models)
    assert not rows["segresnet"]["served"]
    assert file.name in rows["segresnet"]["origin"]
    assert run("import", file, "--as", "segresnet", "--models", models).exit_code != 0
    assert run("publish", "segresnet", "--models", models).exit_code == 0
    assert list(ModelStore(models).served().checkpoints) == ["unet", "nnunet", "segresnet"]
    assert listed(models)["segresnet"]["served"]
    assert run("publish", "segresnet", "--only", "--models", models).exit_code == 0
    assert list(ModelStore(models).served().checkpoints) == ["segresnet"]
    table = run("list", "--models", models)
    assert table.exit_code == 0
    assert "segresnet" in table.stdout


def test_import_and_publish_at_once_in_place_of_one(file, tmp_path):
    models = tmp_path / "model"
    ModelStore(models).publish({"unet": tiny("unet"), "nnunet": tiny("nnunet")})
    result = run("import", file, "--name", "unet", "--publish", "--models", models)
    assert result.exit_code == 0, result.output
    assert list(ModelStore(models).served().checkpoints) == ["unet", "nnunet"]
    assert listed(models)["unet"]["architecture"] == "segresnet"


def test_a_refusal_changes_nothing(file, tmp_path):
    models = tmp_path / "model"
    result = run("import", file, "--as", "unet", "--publish", "--models", models)
    assert isinstance(result.exception, CheckpointError)
    assert file.name in str(result.exception)
    assert not models.exists()
