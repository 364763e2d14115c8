"""A tiny network learns; the same seed gives the same weights, in one run or in two."""

import dataclasses
import math

import pytest
import torch

from atlas8k.core.errors import TrainingError
from atlas8k.models.checkpoint import Preprocessing, load_checkpoint, save_checkpoint
from atlas8k.models.networks import build
from atlas8k.training.config import Optimiser, TrainingConfig
from atlas8k.training.data import Prepared, TrainingCase
from atlas8k.training.loop import Progress, rate, train_network

from .conftest import tiny


def config(**settings) -> TrainingConfig:
    name_to = {n: Optimiser(kind="adam", lr=1e-2, weight_decay=0) for n in ("unet", "nnunet")}
    return TrainingConfig(
        **{
            "epochs": 2,
            "steps_per_epoch": 3,
            "workers": 0,
            "amp": False,
            "optimisers": name_to,
            "averaging": 0.9,
            **settings,
        }
    )


def same(a, b) -> bool:
    return all(torch.equal(a.state[key], b.state[key]) for key in a.state)


@pytest.mark.parametrize("name", ["unet", "nnunet"])
def test_learns_one_case_and_reports_it(name, case):
    seen: list[Progress] = []
    settings = config(epochs=4, steps_per_epoch=20, augment=0.0, validate_every=4)
    trained = train_network(
        tiny(name), [case("a")], settings, validation=[case("a")], on_epoch=seen.append
    )
    assert [p.epoch for p in seen] == [1, 2, 3, 4]
    assert seen[-1].loss < seen[0].loss / 2
    assert seen[0].dsc == {}
    assert set(seen[-1].dsc) == {"liver", "spleen"}  # absent organs are not counted
    assert min(seen[-1].dsc.values()) > 0.9
    assert seen[-1].fraction == 1
    assert seen[-1].seconds_left == 0
    assert trained.origin["steps"] == 80
    assert not same(trained, tiny(name))


def test_same_seed_same_weights_whatever_the_workers(case):
    cases = [case("a", 1), case("b", 2)]
    first = train_network(tiny("unet"), cases, config())
    torch.manual_seed(99)  # nothing may depend on the state of the global generator
    assert same(first, train_network(tiny("unet"), cases, config()))
    assert same(first, train_network(tiny("unet"), cases, config(workers=2)))
    assert not same(first, train_network(tiny("unet"), cases, config(seed=1)))


def test_goes_on_from_its_state_to_the_same_weights(case, tmp_path):
    cases = [case("a", 1), case("b", 2)]
    settings = config(epochs=4)
    whole = train_network(tiny("unet"), cases, settings)

    class PowerCutError(Exception):
        pass

    def interrupt(progress: Progress) -> None:
        if progress.epoch == 2:
            raise PowerCutError

    state = tmp_path / "unet.state.pt"
    with pytest.raises(PowerCutError):
        train_network(tiny("unet"), cases, settings, on_epoch=interrupt, state_path=state)
    assert state.is_file()
    epochs: list[int] = []
    resumed = train_network(
        tiny("unet", seed=5),
        cases,
        settings,
        on_epoch=lambda p: epochs.append(p.epoch),
        state_path=state,
    )
    assert epochs == [3, 4]
    assert same(whole, resumed)
    # It stays until its result is stored, and from its end nothing is trained again.
    again = train_network(tiny("unet"), cases, settings, on_epoch=interrupt, state_path=state)
    assert same(whole, again)
    assert not list(tmp_path.glob(".*part"))


def test_a_state_of_another_training_or_damaged_is_refused(case, tmp_path):
    state = tmp_path / "unet.state.pt"
    kept: list[bytes] = []
    train_network(
        tiny("unet"),
        [case("a")],
        config(),
        on_epoch=lambda _: kept.append(state.read_bytes()),
        state_path=state,
    )
    state.write_bytes(kept[0])
    with pytest.raises(TrainingError, match="another training"):
        train_network(tiny("unet"), [case("a")], config(seed=3), state_path=state)
    state.write_bytes(kept[0][:1000])
    with pytest.raises(TrainingError, match=r"unet\.state\.pt.*remove it"):
        train_network(tiny("unet"), [case("a")], config(), state_path=state)


def test_stops_when_asked_with_what_it_has(case):
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 4

    seen: list[Progress] = []
    trained = train_network(
        tiny("unet"), [case("a")], config(epochs=50), on_epoch=seen.append, should_stop=stop
    )
    assert trained.origin["steps"] == 4
    assert len(seen) == 2
    untouched = train_network(tiny("unet"), [case("a")], config(), should_stop=lambda: True)
    assert same(untouched, tiny("unet"))


def test_the_clock_ends_a_training(case):
    seen: list[Progress] = []
    train_network(tiny("unet"), [case("a")], config(epochs=1, minutes=0.03), on_epoch=seen.append)
    assert len(seen) > 1
    assert seen[-1].epochs is None
    assert seen[-1].fraction == 1


def test_progress_makes_a_checkpoint_that_loads(case, tmp_path):
    paths = []
    train_network(
        tiny("nnunet"),
        [case("a")],
        config(),
        on_epoch=lambda p: paths.append(
            save_checkpoint(tmp_path / f"{p.epoch}.safetensors", p.checkpoint())
        ),
    )
    loaded = load_checkpoint(paths[0])
    assert loaded.origin["steps"] == 3
    assert loaded.architecture == tiny("nnunet").architecture


def test_a_loss_that_is_not_finite_ends_the_training(case):
    start = tiny("unet")
    broken = dict(start.state)
    key = next(k for k in broken if k.endswith("weight"))
    broken[key] = torch.full_like(broken[key], math.nan)
    with pytest.raises(TrainingError, match="not finite"):
        train_network(dataclasses.replace(start, state=broken), [case("a")], config())


@dataclasses.dataclass(frozen=True)
class Overflowing:
    """A case on which every network's loss is NaN."""

    case: TrainingCase
    name: str = "overflowing"

    def load(self, preprocessing: Preprocessing) -> Prepared:
        made = self.case.load(preprocessing)
        return dataclasses.replace(made, image=torch.full_like(made.image, math.nan))


def test_a_step_whose_gradient_is_not_finite_is_left_out(case, caplog):
    cases = [*(case(name) for name in "abc"), Overflowing(case("d"))]
    seen: list[Progress] = []
    settings = config(epochs=2, steps_per_epoch=12, batch_size=1)
    trained = train_network(tiny("unet"), cases, settings, on_epoch=seen.append)
    left_out = caplog.text.count("is left out, its gradient is not finite")
    assert 0 < left_out < 12
    assert trained.origin["steps"] == 24
    assert all(math.isfinite(progress.loss) for progress in seen)
    assert all(torch.isfinite(tensor).all() for tensor in trained.state.values())
    assert not same(trained, tiny("unet"))


def test_batches_one_after_another_are_one_large_batch(case):
    """With a loss that is a mean over patches; here one patch, twice."""
    cases = [case("a", 1)]
    settings = {"augment": 0.0, "patch": (24, 20, 16), "balance": 0.0, "batch_size": 1}
    sgd = {"unet": Optimiser(kind="sgd", lr=1e-2, weight_decay=0)}
    one = train_network(tiny("unet"), cases, config(optimisers=sgd, **settings))
    two = train_network(tiny("unet"), cases, config(optimisers=sgd, accumulate=2, **settings))
    assert one.origin["steps"] == two.origin["steps"] == 6
    assert not same(one, tiny("unet"))
    assert all(torch.allclose(one.state[k], two.state[k], atol=1e-5) for k in one.state)


def test_patches_that_do_not_fit_the_network_are_named(case):
    architecture = {
        "name": "swin_unetr",
        "out_channels": 9,
        "feature_size": 12,
        "num_heads": [1, 2, 4, 8],
    }
    start = dataclasses.replace(
        tiny("unet"), architecture=architecture, state=build(architecture).state_dict()
    )
    with pytest.raises(TrainingError, match=r"patches of \(48, 48, 48\) voxels"):
        train_network(start, [case("a")], config(patch=(48, 48, 48)))


def test_dropout_does_not_depend_on_what_was_drawn_before(case):
    architecture = {**tiny("unet").architecture, "dropout": 0.3}
    start = dataclasses.replace(tiny("unet"), architecture=architecture)
    first = train_network(start, [case("a")], config())
    torch.manual_seed(99)
    assert same(first, train_network(start, [case("a")], config()))
    assert not same(first, train_network(tiny("unet"), [case("a")], config()))


def test_nnunets_rate_falls_as_a_polynomial():
    values = [rate(i / 10, 0.0, "polynomial") for i in range(11)]
    assert values == pytest.approx([(1 - i / 10) ** 0.9 for i in range(11)])


def test_rate_rises_then_falls_to_almost_nothing():
    values = [rate(i / 100, 0.1) for i in range(101)]
    assert values[0] == 0
    assert max(values) == values[10] == pytest.approx(1)
    assert values[10:] == sorted(values[10:], reverse=True)
    assert values[-1] == pytest.approx(0.01)
