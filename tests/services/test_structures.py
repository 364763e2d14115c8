"""Campaigns of other structures than the nine: begun with them, or extended while they run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.server.tiny import GRID, NETWORKS, write_ct, write_networks

from atlas8k.core.errors import CheckpointError, SettingsError
from atlas8k.core.settings import Settings
from atlas8k.core.structure_sets import NINE, built_in, find_set
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES, in_use, use, using
from atlas8k.core.volume import read_label, write_nifti
from atlas8k.services.context import Context
from atlas8k.services.opening import open_context
from atlas8k.services.rebuild import rebuild_ledger
from atlas8k.services.scoring import Scoring
from atlas8k.services.studies.opening import STRUCTURES_FILE, open_ledger, structures_beside
from atlas8k.services.training.fine_tuning import FineTuning
from atlas8k.store import Holder, Ledger

ANNA = Holder.identify(user="anna")
Open = Callable[..., Context]


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = in_use()
    yield
    use(before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    studies = tmp_path / "studies"
    studies.mkdir()
    for seed, name in enumerate("abc"):
        write_ct(studies / f"{name}.nii.gz", seed)
    write_networks(tmp_path / "models")
    return studies


@pytest.fixture
def opened(folder: Path, tmp_path: Path) -> Iterator[Open]:
    contexts: list[Context] = []

    def open_(structures: str = "") -> Context:
        while contexts:
            close(contexts.pop())
        use(built_in("abdomenatlas-1.0"))  # as a process that has just begun
        settings = Settings.from_conf({"structures": structures} if structures else {})
        contexts.append(open_context(settings, str(folder), tmp_path / "models"))
        return contexts[-1]

    yield open_
    while contexts:
        close(contexts.pop())


def boxes(**where: tuple[int, int]) -> Any:
    array = np.zeros(GRID.shape, np.uint8)
    for organ, (start, stop) in where.items():
        array[start:stop, 5:12, 4:12] = ORGAN_IDS[organ]
    return array


def submit(context: Context, volume: str, tmp_path: Path, array: Any, **params: Any) -> None:
    assert context.label_service is not None
    path = write_nifti(tmp_path / "sent.nii.gz", array, GRID)
    info = [{"name": name, "idx": number} for name, number in ORGAN_IDS.items()]
    params = {"label_info": info, "volume_is_right": list(ORGAN_NAMES), **params}
    context.label_service.submit(volume, path, ANNA, params)


def score_all(context: Context) -> None:
    Scoring(context).run()


def close(context: Context) -> None:
    context.close()


def files_of(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((folder / "labels").rglob("*.nii.gz"))
    }


def test_a_campaign_of_25_structures_with_networks_of_nine(
    opened: Open, folder: Path, tmp_path: Path
) -> None:
    context = opened("abdomenatlas-1.1")
    assert (in_use().name, len(ORGAN_NAMES)) == ("abdomenatlas-1.1", 25)
    score_all(context)
    sample = context.ledger.next_sample(holder=ANNA, model_version=context.model_version())
    assert sample is not None
    assert {one.organ for one in sample.organs} <= set(NINE)  # nobody predicts the others
    array = boxes(liver=(3, 8), duodenum=(9, 11), femur_left=(12, 15))
    submit(context, sample.volume, tmp_path, array)
    sources = context.ledger.sources(sample.volume)
    assert {o for o, one in sources.items() if one.state == "revised"} == {
        "liver", "duodenum", "femur_left",
    }  # fmt: skip
    assert "colon" not in sources or sources["colon"].state == "unknown"
    label = read_label(folder / "labels" / "original" / f"{sample.volume}.nii.gz").array
    assert {ORGAN_IDS["duodenum"], ORGAN_IDS["femur_left"]} <= set(np.unique(label))
    # Without the setting it is opened as it was begun.
    again = opened()
    assert in_use().name == "abdomenatlas-1.1"
    assert again.ledger.sources(sample.volume) == sources


def test_networks_learn_structures_that_none_knows(opened: Open, tmp_path: Path) -> None:
    context = opened("abdomenatlas-1.1")
    score_all(context)
    for volume in "abc":
        submit(context, volume, tmp_path, boxes(liver=(3, 8), duodenum=(9, 12)))
    asked = {"max_epochs": 1, "steps_per_epoch": 1, "networks": ["unet"], "gate": False}
    stats = FineTuning(context).run(asked)
    assert stats["gate"]["publish"] == ["unet"], stats
    served = context.models.served().load()
    assert served["unet"].organs == (*NINE, "duodenum")
    assert served["nnunet"].organs == NINE
    answers = context.engine.answers(Path(context.studies.path) / "a.nii.gz")[1]
    assert answers.sizes.organs == (*NINE, "duodenum")
    score_all(context)
    with context.ledger.read() as tx:
        scored = tx.run(
            "SELECT DISTINCT s.name FROM score c JOIN structure s ON s.id = c.organ"
            " JOIN model_version m ON m.id = c.model_version WHERE m.name = ?",
            context.model_version(),
        )
        assert {name for (name,) in scored} == {*NINE, "duodenum"}


def test_structures_are_added_to_a_campaign_that_runs(
    opened: Open, folder: Path, tmp_path: Path
) -> None:
    context = opened()
    score_all(context)
    for volume in "abc":
        submit(context, volume, tmp_path, boxes(liver=(3, 8), spleen=(9, 11)))
    files = files_of(folder)
    sources = {volume: context.ledger.sources(volume) for volume in "abc"}
    submissions = context.ledger.submissions("a")
    mine = tmp_path / "mine.yaml"
    names = [*NINE, "duodenum", "adrenal_gland_left", "adrenal_gland_right"]
    mine.write_text("structures:\n" + "".join(f"  {name}:\n" for name in names))
    context = opened(str(mine))
    assert tuple(ORGAN_NAMES) == tuple(names)
    assert files_of(folder) == files
    assert {volume: context.ledger.sources(volume) for volume in "abc"} == sources
    assert context.ledger.submissions("a") == submissions
    submit(context, "a", tmp_path, boxes(liver=(3, 8), spleen=(9, 11), duodenum=(12, 14)))
    assert context.ledger.sources("a")["duodenum"].state == "revised"
    assert "duodenum" not in context.ledger.sources("b")
    mine.unlink()  # it is in the store
    assert opened().ledger.sources("a")["duodenum"].state == "revised"
    assert tuple(ORGAN_NAMES) == tuple(names)


@pytest.mark.parametrize("wanted", ["a-eval", "totalsegmentator-abdomen"])
def test_a_set_that_lacks_what_is_labeled_is_refused_before_anything_is_changed(
    opened: Open, folder: Path, tmp_path: Path, wanted: str
) -> None:
    context = opened()
    score_all(context)
    submit(context, "a", tmp_path, boxes(liver=(3, 8)))
    files, sources = files_of(folder), context.ledger.sources("a")
    with pytest.raises(SettingsError, match=r"this campaign has aorta as 1.*Nothing was changed"):
        opened(wanted)
    context = opened()
    assert in_use().name == "abdomenatlas-1.0"
    assert (files_of(folder), context.ledger.sources("a")) == (files, sources)


MANY = ", ".join(f'part_{i}: {{snomed: ["91723000", Part]}}' for i in range(300))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{liver: , heart: {snomed: ['80891009', Heart], id: 1}}", "heart has id 1, 2 is expected"),
        ("{liver: , liver: }", "liver stands there twice"),
        ("{liver: , spleen: {aliases: [hepar]}}", "hepar is a name or alias of both liver and"),
        ("{heart: {snomed: ['80891008', Heart]}}", "80891008 is no SNOMED CT concept id"),
        (f"{{{MANY}}}", "300 structures; 1 to 254"),
    ],
)
def test_what_is_no_set_is_refused_before_anything_is_changed(
    opened: Open, folder: Path, tmp_path: Path, text: str, words: str
) -> None:
    """At the start of a campaign, and of one that runs."""
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"structures: {text}\n")
    before = sorted(folder.rglob("*"))
    with pytest.raises(SettingsError, match=words):
        opened(str(mine))
    assert sorted(folder.rglob("*")) == before
    context = opened()
    score_all(context)
    submit(context, "a", tmp_path, boxes(liver=(3, 8)))
    files, sources = files_of(folder), context.ledger.sources("a")
    with pytest.raises(SettingsError, match=words):
        opened(str(mine))
    context = opened()
    assert in_use().name == "abdomenatlas-1.0"
    assert (files_of(folder), context.ledger.sources("a")) == (files, sources)


def test_a_campaign_that_nothing_was_labeled_in_takes_any_set(opened: Open) -> None:
    opened()
    context = opened("a-eval")
    score_all(context)
    assert (ORGAN_IDS["liver"], ORGAN_IDS.get("aorta")) == (1, None)
    sizes = context.engine.answers(Path(context.studies.path) / "a.nii.gz")[1].sizes
    # The networks know the esophagus not, and the aorta is not asked for.
    assert sizes.organs == tuple(name for name in built_in("a-eval").names if name in NINE)


def test_networks_that_know_none_of_the_structures_are_refused_by_name(
    opened: Open, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("structures: [duodenum, colon]\n")
    context = opened(str(mine))
    with pytest.raises(CheckpointError) as refused:
        score_all(context)
    for name in NETWORKS:
        assert f"{name}: knows aorta, gall_bladder" in str(refused.value)
    assert "none of the structures that are annotated here (mine: duodenum, colon)" in str(
        refused.value
    )


def test_a_lost_store_is_made_anew_with_its_structures(
    opened: Open, folder: Path, tmp_path: Path
) -> None:
    context = opened("abdomenatlas-1.1")
    submit(context, "a", tmp_path, boxes(liver=(3, 8), duodenum=(9, 11)))
    path = context.ledger.path
    assert find_set(folder / "labels" / STRUCTURES_FILE).names == ORGAN_NAMES
    close(context)
    use(built_in("abdomenatlas-1.0"))
    rebuild_ledger(folder, path)
    assert Ledger(path).sources("a")["duodenum"].state == "revised"
    assert len(in_use().names) == 25


def test_an_archive_begins_with_a_set_though_it_has_no_folder_yet(tmp_path: Path) -> None:
    root = tmp_path / "state" / "studies"
    with using(in_use()):
        wanted = built_in("abdomenatlas-1.1")
        open_ledger(root, tmp_path / "ledger.sqlite", structures=wanted).close()
        beside = structures_beside(root)
        assert beside is not None
        assert beside.as_dict() == wanted.as_dict()
