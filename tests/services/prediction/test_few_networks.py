"""One network, two, networks that know other organs: each is answered as far as it goes.

Predicted quality was learnt of three networks together; with fewer it is unknown, and every place
that shows it says so and why.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.server.tiny import NETWORKS, checkpoint, write_ct
from typer.testing import CliRunner

from atlas8k.attention.quality_model import QUALITY_FILE
from atlas8k.cli.explain import explain
from atlas8k.cli.predict import predict
from atlas8k.core.errors import CheckpointError
from atlas8k.core.settings import Settings
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.models.checkpoint import Checkpoint, save_checkpoint
from atlas8k.models.networks import build
from atlas8k.server.archive_datastore import datastore_of
from atlas8k.server.tasks.infer import OrganInfer
from atlas8k.services.calibrations import Calibrations
from atlas8k.services.context import Context
from atlas8k.services.opening import open_context
from atlas8k.services.prediction.answers import Answers
from atlas8k.services.scoring import Scoring
from atlas8k.store import Holder

LEARNT = Path(__file__).parents[3] / "apps/atlas8k/model/embedded" / QUALITY_FILE
WHY = {
    1: "unknown: 1 network took part, and what was learnt is of the errors of 3 together",
    2: "unknown: 2 networks took part, and what was learnt is of the errors of 3 together",
}
app = typer.Typer()
app.command()(explain)
app.command()(predict)


def of_organs(name: str, organs: tuple[str, ...]) -> Checkpoint:
    """A network that knows these organs alone."""
    whole = checkpoint(name)
    architecture = {**whole.architecture, "out_channels": len(organs)}
    return replace(
        whole, architecture=architecture, organs=organs, state=build(architecture).state_dict()
    )


def opened(tmp_path: Path, networks: list[Checkpoint]) -> Context:
    """Two CTs scored by these networks, beside what was learnt of three."""
    studies = tmp_path / "studies"
    studies.mkdir()
    for seed, (name, scale) in enumerate([("a", 0.6), ("b", 1.0)]):
        write_ct(studies / f"{name}.nii.gz", seed, scale)
    folder = tmp_path / "model" / "embedded"
    for network in networks:
        save_checkpoint(folder / f"{network.name}.safetensors", network)
    shutil.copyfile(LEARNT, folder / QUALITY_FILE)
    conf = {"device": "cpu", "inconsistency_threshold": "0.01", "check_content": "false"}
    context = open_context(Settings.from_conf(conf), str(studies), tmp_path / "model")
    Scoring(context).run()
    return context


def inferred(context: Context) -> dict[str, Any]:
    """What a client gets beside the label."""
    task = OrganInfer(context.engine, None, Calibrations(context.ledger))
    path = datastore_of(context).get_image_uri("a")
    file, params = task({"image": path, "volume": "a"})
    Path(file).unlink()
    return params


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    if result.exception:
        raise result.exception
    return " ".join(result.output.split())


@pytest.mark.parametrize("count", [1, 2])
def test_with_fewer_networks_quality_is_unknown_everywhere(tmp_path: Path, count: int) -> None:
    context = opened(tmp_path, [checkpoint(name) for name in NETWORKS[1 : 1 + count]])
    version = context.model_version()
    # A list is drawn all the same, by what so many networks can tell.
    measured = context.ledger.measured_rankings(version)
    assert {"eq4", "salient"} <= set(measured)
    assert "expected_error" not in measured
    if count == 1:  # nobody to differ from
        (first, second) = context.ledger.ranking(version, by="pairwise_dice")
        assert first.score == second.score == 0
    sample = context.ledger.next_sample(
        holder=Holder.identify(client_id="anna"), model_version=version
    )
    assert sample is not None
    reply = inferred(context)
    assert (reply["quality"], reply["quality_basis"]) == ({}, WHY[count])
    assert inferred(context)["quality_basis"] == WHY[count]  # of the kept answers, too
    context.close()

    told = run("explain", "a", "--studies", tmp_path / "studies")
    assert f"Predicted DSC: {WHY[count]}." in told
    assert told.count(" unknown ") >= len(ORGAN_NAMES)
    as_json = json.loads(
        CliRunner()
        .invoke(app, ["explain", "a", "--studies", str(tmp_path / "studies"), "--json"])
        .stdout
    )
    assert as_json["quality_basis"] == WHY[count]

    told = run(
        "predict", tmp_path / "studies" / "b.nii.gz", tmp_path / "out.nii.gz", "--statistics",
        "--force", "--models", tmp_path / "model",
    )  # fmt: skip
    assert f"Predicted DSC: {WHY[count]}." in told
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["quality_basis"] == WHY[count]
    assert {row["quality"] for row in report["organs"].values()} == {None}


def test_three_networks_have_it_as_embedded_until_people_submit(tmp_path: Path) -> None:
    context = opened(tmp_path, [checkpoint(name) for name in NETWORKS])
    reply = inferred(context)
    assert reply["quality"]
    assert reply["quality_basis"].startswith("as embedded, from synthetic CTs: 0 of 20")
    assert "expected_error" in context.ledger.measured_rankings(context.model_version())
    context.close()
    told = run("explain", "a", "--studies", tmp_path / "studies")
    assert "Predicted DSC: as embedded, from synthetic CTs: 0 of 20 submitted" in told
    assert " unknown " not in told


def test_one_network_is_no_ranking_by_pairs(tmp_path: Path) -> None:
    context = opened(tmp_path, [checkpoint("unet")])
    settings = context.settings.model_copy(update={"ranking": "pairwise_dice"})
    context.close()
    by_pairs = open_context(settings, str(tmp_path / "studies"), tmp_path / "model")
    with pytest.raises(CheckpointError, match="one alone has nobody to differ from"):
        Scoring(by_pairs).run()
    by_pairs.close()


def test_networks_that_know_other_organs_are_asked_of_those(tmp_path: Path) -> None:
    networks = [
        checkpoint("swin_unetr"),
        of_organs("unet", ("liver", "spleen")),
        replace(of_organs("unet", ("liver",)), name="trunk"),
    ]
    context = opened(tmp_path, networks)
    path = context.studies.path / "a.nii.gz"
    _, answers, _ = context.engine.answers(path, volume="a")
    assert answers.names == ("swin_unetr", "unet", "trunk")
    assert answers.expected is not None
    scores = answers.organ_scores()
    # One network knows the aorta: nobody differs from it.
    assert scores["aorta"].inconsistency_ml == pytest.approx(0, abs=1e-6)
    assert scores["aorta"].figures["pairwise_dice"] is None
    assert scores["liver"].inconsistency_ml > 1
    assert scores["liver"].figures["pairwise_dice"] is not None
    kept = Answers.unpacked(answers.packed(), "a")
    assert kept.organ_scores() == scores
    assert inferred(context)["quality_basis"].startswith("as embedded")
    context.close()
    run("explain", "a", "--studies", tmp_path / "studies")
