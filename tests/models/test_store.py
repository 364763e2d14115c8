"""The store: what is served is always whole, whatever happened before."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.attention.test_found_places import by_spread
from tests.models.tiny import body_ct, tiny

from atlas8k.attention.quality_model import QUALITY_FILE
from atlas8k.core.errors import CheckpointError, ServedChangedError
from atlas8k.models.checkpoint import load_checkpoint, save_checkpoint
from atlas8k.models.predict import Predictor
from atlas8k.models.sets import comes_from, file_sha256, name_model_version
from atlas8k.models.store import ModelStore


@pytest.fixture
def root(tmp_path):
    for name in ("unet", "nnunet"):
        save_checkpoint(tmp_path / "model/embedded" / f"{name}.safetensors", tiny(name))
    return tmp_path / "model"


@pytest.fixture
def store(root):
    return ModelStore(root)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def spoil(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def test_the_embedded_set_is_served_until_one_is_published(store):
    served = store.served()
    assert served.folder == "embedded"
    assert list(served.checkpoints) == ["unet", "nnunet"]
    assert len(served.model_version) == 12
    assert store.served() == served
    assert set(served.load()) == {"unet", "nnunet"}
    assert store.history() == []


def test_a_published_set_is_complete_and_served(store, root):
    before = content(root / "embedded")
    embedded = store.served()
    model_version = store.publish({"unet": tiny("unet", seed=1)}, note="round 1")
    served = store.served()
    assert served.model_version == served.folder == model_version != embedded.model_version
    assert served.note == "round 1"
    assert list(served.checkpoints) == ["unet", "nnunet"]
    assert all(path.parent == root / model_version for path in served.checkpoints.values())
    # the network that was not trained is the one that was served
    assert served.checkpoints["nnunet"].read_bytes() == before["nnunet.safetensors"]
    assert load_checkpoint(served.checkpoints["unet"]).origin == {"random_weights": 1}
    assert content(root / "embedded") == before
    assert not list(root.glob(".publishing-*"))
    assert [(e["set"], e["note"]) for e in store.history()] == [(model_version, "round 1")]


def test_networks_come_in_the_order_of_the_procedure(store):
    store.publish({"swin_unetr": tiny("swin_unetr"), "another": tiny("unet")})
    assert list(store.served().checkpoints) == ["swin_unetr", "unet", "nnunet", "another"]


def test_the_model_version_depends_on_files_and_settings_and_nothing_else(store, root, tmp_path):
    shutil.copytree(root, tmp_path / "copy/model")
    assert (
        ModelStore(tmp_path / "copy/model").served().model_version == store.served().model_version
    )
    other = ModelStore(root, {"overlap": "any"})
    assert other.served().model_version != store.served().model_version
    again = ModelStore(root, {"overlap": "any"})
    assert other.served().model_version == again.served().model_version
    assert name_model_version({"a": "1", "b": "2"}, {}) == name_model_version(
        {"b": "2", "a": "1"}, {}
    )
    assert name_model_version({"a": "1", "b": "2"}, {}) != name_model_version(
        {"a": "2", "b": "1"}, {}
    )


def test_publishing_the_same_twice_is_publishing_it_once(store, root):
    one = store.publish({"unet": tiny("unet", seed=1)})
    files = content(root / one)
    assert store.publish({"unet": tiny("unet", seed=1)}) == one
    assert content(root / one) == files


def test_rolling_back_step_by_step_to_the_embedded_set(store):
    one = store.publish({"unet": tiny("unet", seed=1)})
    two = store.publish({"unet": tiny("unet", seed=2)})
    assert store.served().folder == two
    assert store.rollback().folder == one
    assert store.served().folder == one
    assert store.rollback().folder == "embedded"
    assert store.served().folder == "embedded"
    with pytest.raises(CheckpointError, match="none came before"):
        store.rollback()
    assert store.serve(two, "forward again").folder == two
    assert store.served().folder == two
    assert [e["set"] for e in store.history()] == [one, two, one, "embedded", two]


def test_what_is_not_there_is_not_served(store):
    with pytest.raises(CheckpointError, match="0123456789ab"):
        store.serve("0123456789ab")
    assert store.served().folder == "embedded"


@pytest.mark.parametrize(
    "harm",
    [
        shutil.rmtree,
        lambda folder: (folder / "set.json").unlink(),
        lambda folder: (folder / "set.json").write_text("{"),
        lambda folder: [path.unlink() for path in folder.glob("*.safetensors")],
    ],
)
def test_a_damaged_set_falls_back_to_the_one_before_and_says_so(store, root, caplog, harm):
    one = store.publish({"unet": tiny("unet", seed=1)})
    two = store.publish({"unet": tiny("unet", seed=2)})
    harm(root / two)
    with caplog.at_level(logging.ERROR):
        assert store.served().folder == one
    assert two in caplog.text
    harm(root / one)
    assert store.served().folder == "embedded"


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda path: path.unlink(), "is missing"),
        (spoil, "was changed after it was published"),
        (lambda path: save_checkpoint(path, tiny("nnunet")), "was changed"),
    ],
)
def test_a_damaged_network_leaves_the_others_of_its_set(store, root, caplog, harm, words):
    one = store.publish({"unet": tiny("unet", seed=1)})
    two = store.publish({"unet": tiny("unet", seed=2), "nnunet": tiny("nnunet", seed=2)})
    harm(root / two / "unet.safetensors")
    served = store.served()
    assert served.folder == two
    assert served.model_version not in (one, two)
    assert list(served.checkpoints) == ["nnunet"]
    assert words in served.missing["unet"]
    with caplog.at_level(logging.ERROR):
        assert set(served.load()) == {"nnunet"}
    assert "network unet is out" in caplog.text
    store.serve(one)
    with pytest.raises(CheckpointError, match=words):  # nobody asks for half a set
        store.serve(two)
    assert store.served().folder == one


def test_of_three_embedded_networks_one_that_is_gone_is_named(store, root):
    save_checkpoint(root / "embedded/swin_unetr.safetensors", tiny("swin_unetr"))
    whole = store.served()
    assert whole.missing == {}
    (root / "embedded/unet.safetensors").unlink()
    rest = store.served()
    assert "unet.safetensors: is missing" in rest.missing["unet"]
    assert list(rest.checkpoints) == ["swin_unetr", "nnunet"]
    assert rest.model_version != whole.model_version
    (root / "embedded/nnunet.safetensors").unlink()
    assert store.served().missing == {}  # a set of one was meant to be one


def test_what_was_rolled_back_from_does_not_come_back_by_itself(store, root):
    one = store.publish({"unet": tiny("unet", seed=1)})
    store.publish({"unet": tiny("unet", seed=2)})
    store.rollback()
    shutil.rmtree(root / one)
    assert store.served().folder == "embedded"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "x"}', '{"served": 3}', "\x00\xff"])
def test_a_damaged_served_json_means_the_newest_whole_set(store, root, caplog, text):
    one = store.publish({"unet": tiny("unet", seed=1)})
    two = store.publish({"unet": tiny("unet", seed=2)})
    (root / "served.json").write_text(text)
    with caplog.at_level(logging.ERROR):
        assert store.served().folder == two
    assert "served.json is damaged" in caplog.text
    shutil.rmtree(root / two)
    assert store.served().folder == one


def test_a_damaged_set_can_be_published_again(store, root):
    one = store.publish({"unet": tiny("unet", seed=1)})
    spoil(root / one / "unet.safetensors")
    assert list(store.served().checkpoints) == ["nnunet"]
    assert store.publish({"unet": tiny("unet", seed=1)}) == one
    assert store.served().folder == one


def test_one_embedded_network_that_cannot_be_loaded_leaves_the_other(store, root, caplog):
    spoil(root / "embedded/nnunet.safetensors")
    served = store.served()
    with caplog.at_level(logging.ERROR):
        predictor = Predictor(served, grid_mm=6.0)
    assert predictor.names == ("unet",)
    assert "nnunet.safetensors" in served.failures["nnunet"]
    assert "nnunet.safetensors" in predictor.failures["nnunet"]
    assert "nnunet.safetensors" in caplog.text
    assert "nnunet" in predictor.predict(body_ct()).failures
    spoil(root / "embedded/unet.safetensors")
    with pytest.raises(CheckpointError, match=r"(?s)unet\.safetensors.*nnunet\.safetensors"):
        store.served().load()


def test_without_any_network_the_folder_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"embedded: holds no \*\.safetensors"):
        ModelStore(tmp_path / "model").served()


def test_a_first_set_can_be_published_without_an_embedded_one(tmp_path):
    store = ModelStore(tmp_path / "model")
    model_version = store.publish({"unet": tiny("unet")})
    assert store.served().model_version == model_version


def test_what_cannot_be_loaded_is_not_published(store, root):
    before = store.served()
    broken = tiny("unet")
    object.__setattr__(broken, "state", {})
    with pytest.raises(CheckpointError, match="missing"):
        store.publish({"unet": broken})
    with pytest.raises(ValueError, match="no checkpoint"):
        store.publish({})
    assert store.served() == before
    assert {p.name for p in root.iterdir()} <= {"embedded", ".lock"}


def test_a_changed_file_is_hashed_again(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"one")
    first = file_sha256(path)
    path.write_bytes(b"three")
    assert file_sha256(path) != first
    with pytest.raises(CheckpointError, match="No such file"):
        file_sha256(tmp_path / "g")


def test_a_name_cannot_lead_out_of_the_folder(store, root):
    state = {"format": "atlas8k-served/1", "served": "../elsewhere", "history": []}
    (root / "served.json").write_text(json.dumps(state))
    shutil.copytree(root / "embedded", root.parent / "elsewhere")
    assert store.served().folder == "embedded"
    with pytest.raises(CheckpointError, match="elsewhere"):
        store.serve("../elsewhere")
    with pytest.raises(CheckpointError, match="not the name of a set"):
        store.serve("../model/embedded")


KILLED = textwrap.dedent(
    """
    import os, sys
    import torch
    torch.set_num_threads(1)  # a forked child must not wait for threads it does not have
    from atlas8k.models import store as module
    from atlas8k.models.store import ModelStore
    from tests.models.tiny import tiny

    root, old = sys.argv[1:3]
    new = {"unet": tiny("unet", seed=7), "nnunet": tiny("nnunet", seed=7)}
    calls = {name: getattr(os, name) for name in ("replace", "fsync", "rename", "mkdir", "chmod")}

    def dying_after(n):
        left = [n]
        def step(call):
            def wrapped(*args, **kwargs):
                if left[0] == 0:
                    os._exit(9)
                left[0] -= 1
                return call(*args, **kwargs)
            return wrapped
        for name, call in calls.items():
            setattr(os, name, step(call))

    n = 0
    while True:
        child = os.fork()
        if child == 0:
            dying_after(n)
            ModelStore(root).publish(new, note=f"killed at {n}")
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        served = ModelStore(root).served()
        loaded = served.load()
        assert set(loaded) == {"unet", "nnunet"} and not served.failures, n
        seeds = {c.origin["random_weights"] for c in loaded.values()}
        assert seeds in ({0}, {7}), (n, seeds)  # never half of each
        if code == 0:
            assert seeds == {7}
            break
        assert code == 9, code
        if seeds == {7}:  # it died after the last step that counts: start over
            ModelStore(root).serve(old)
        n += 1
    print(n)
    """
)


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_a_publisher_killed_at_any_step_leaves_a_whole_set_served(store, root):
    store.served()
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(root), "embedded"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 8  # so many steps there were to die at
    assert not list(root.glob(".publishing-*"))  # the last publisher swept up


def test_what_was_compared_with_another_set_is_not_published(store):
    embedded = store.served().model_version
    one = store.publish({"unet": tiny("unet", seed=1)}, expected=embedded)
    history = store.history()
    with pytest.raises(ServedChangedError, match=f"{one} is served by now, no longer {embedded}"):
        store.publish({"unet": tiny("unet", seed=2)}, expected=embedded)
    assert store.served().model_version == one
    assert store.history() == history


def test_a_set_comes_from_those_it_was_published_over_and_not_from_what_was_taken_back(store):
    one = store.publish({"unet": tiny("unet", seed=1)})
    two = store.publish({"unet": tiny("unet", seed=2)})
    store.serve(one)
    three = store.publish({"unet": tiny("unet", seed=3)})
    for folder, before in ((one, "embedded"), (two, one), (two, "embedded"), (three, one)):
        assert comes_from(store.root, folder, before)
        assert not comes_from(store.root, before, folder)
    assert comes_from(store.root, one, one)
    assert not comes_from(store.root, three, two)
    assert not comes_from(store.root, "gone", one)


def test_what_was_learnt_of_errors_travels_with_the_networks(store, root, caplog):
    """Scores depend on it: it is a part of the model version, and goes with what is published."""
    before = store.served()
    assert before.quality is None
    path = root / "embedded" / QUALITY_FILE
    path.write_text(json.dumps(by_spread().as_dict()))
    embedded = store.served()
    assert embedded.quality.made_of == "by hand"
    assert embedded.model_version != before.model_version
    model_version = store.publish({"unet": tiny("unet", seed=1)})
    path.unlink()
    served = store.served()
    assert served.model_version == model_version
    assert served.quality.made_of == "by hand"

    (root / model_version / QUALITY_FILE).write_text("{}")
    with caplog.at_level(logging.ERROR):
        damaged = store.served()
    assert damaged.quality is None
    assert QUALITY_FILE in caplog.text
    assert damaged.model_version != model_version  # what ranked by it is stale


def test_a_set_without_its_own_has_that_of_the_embedded_networks(store, root):
    store.publish({"unet": tiny("unet", seed=1)})
    before = store.served()
    (root / "embedded" / QUALITY_FILE).write_text(json.dumps(by_spread().as_dict()))
    assert before.quality is None
    assert store.served().quality.made_of == "by hand"
