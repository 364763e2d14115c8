"""What nobody labeled has no say in the loss; what was labeled has the right one."""

import math

import pytest
import torch
from torch.nn import functional

from atlas8k.training.data import IGNORED
from atlas8k.training.losses import segmentation_loss

SHAPE = (6, 5, 4)
ORGANS = 9


def sample(channels: int, batch: int = 2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((batch, channels, *SHAPE), generator=generator, requires_grad=True)
    label = torch.randint(0, ORGANS + 1, (batch, *SHAPE), generator=generator, dtype=torch.uint8)
    return logits, label


def everything(batch: int = 2) -> torch.Tensor:
    return torch.ones((batch, ORGANS), dtype=torch.bool)


@pytest.mark.parametrize("balance", [0.0, 1.0])
def test_sigmoid_gradient_of_an_unknown_organ_is_exactly_zero(balance):
    logits, label = sample(ORGANS)
    known = everything()
    known[:, 3] = False
    known[1, 5] = False
    label[:, :, :, :][label == 4] = 0
    label[1][label[1] == 6] = 0
    segmentation_loss(logits, label, known, "sigmoid", balance).backward()
    assert torch.count_nonzero(logits.grad[:, 3]) == 0
    assert torch.count_nonzero(logits.grad[1, 5]) == 0
    assert torch.count_nonzero(logits.grad[0, 5]) == logits.grad[0, 5].numel()
    assert torch.count_nonzero(logits.grad[:, 0]) == logits.grad[:, 0].numel()


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_nothing_known_is_a_loss_of_zero_without_gradient(activation):
    logits, label = sample(ORGANS + (activation == "softmax"))
    loss = segmentation_loss(logits, torch.zeros_like(label), ~everything(), activation)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    assert float(logits.grad.abs().max()) == pytest.approx(0, abs=1e-8)


def test_softmax_does_not_care_how_background_and_unknown_share_their_probability():
    logits, label = sample(ORGANS + 1)
    known = everything()
    known[:, 2] = False
    label[label == 3] = 0
    probs = torch.softmax(logits.detach(), dim=1)
    together = probs[:, 0] + probs[:, 3]
    losses = []
    for share in (0.01, 0.5, 0.99):
        moved = probs.clone()
        moved[:, 0], moved[:, 3] = together * share, together * (1 - share)
        losses.append(float(segmentation_loss(moved.log(), label, known, "softmax")))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0] == pytest.approx(losses[2], rel=1e-5)


def test_softmax_voxel_of_a_known_organ_is_none_of_an_unknown_one():
    logits = torch.zeros((1, ORGANS + 1, *SHAPE), requires_grad=True)
    label = torch.full((1, *SHAPE), 1, dtype=torch.uint8)
    known = torch.zeros((1, ORGANS), dtype=torch.bool)
    known[0, 0] = True
    segmentation_loss(logits, label, known, "softmax").backward()
    assert (logits.grad[:, 1] < 0).all()
    assert (logits.grad[:, 2] > 0).all()


def test_softmax_gradient_is_finite_where_an_organ_is_unknown():
    logits, label = sample(ORGANS + 1)
    known = everything()
    known[0] = False
    label[0] = 0
    segmentation_loss(logits, label, known, "softmax").backward()
    assert torch.isfinite(logits.grad).all()


def test_closed_form_with_all_known():
    logits, label = sample(ORGANS + 1, batch=1)
    truth = functional.one_hot(label.long(), ORGANS + 1).permute(0, 4, 1, 2, 3).float()
    probs = torch.softmax(logits, dim=1)
    axes = (0, 2, 3, 4)
    overlap = (probs * truth).sum(axes)[1:]
    dice = 2 * overlap / (probs.sum(axes) + truth.sum(axes))[1:]
    entropy = -(truth * probs.log()).sum(1).mean()
    expected = float((entropy + (1 - dice).mean()).detach())
    found = segmentation_loss(logits, label, everything(1), "softmax")
    assert float(found.detach()) == pytest.approx(expected, rel=1e-5)

    logits, label = sample(ORGANS, batch=1)
    truth, probs = truth[:, 1:], torch.sigmoid(logits)
    truth = functional.one_hot(label.long(), ORGANS + 1).permute(0, 4, 1, 2, 3).float()[:, 1:]
    dice = 2 * (probs * truth).sum(axes) / (probs.sum(axes) + truth.sum(axes))
    entropy = -(truth * probs.log() + (1 - truth) * (1 - probs).log()).mean()
    expected = float((3 * entropy + (1 - dice).mean()).detach())
    found = segmentation_loss(logits, label, everything(1), "sigmoid")
    assert float(found.detach()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_the_truth_itself_costs_next_to_nothing(activation):
    channels = ORGANS + (activation == "softmax")
    _, label = sample(channels)
    truth = functional.one_hot(label.long(), ORGANS + 1).permute(0, 4, 1, 2, 3).float()
    truth = truth if activation == "softmax" else truth[:, 1:]
    loss = segmentation_loss((truth - 0.5) * 60, label, everything(), activation)
    assert float(loss) == pytest.approx(0, abs=1e-4)


def test_an_absent_organ_has_no_dice_but_false_positives_cost():
    label = torch.zeros((1, *SHAPE), dtype=torch.uint8)
    quiet = torch.full((1, ORGANS, *SHAPE), -20.0)
    loud = quiet.clone()
    loud[:, 1] = 20.0
    assert float(segmentation_loss(quiet, label, everything(1), "sigmoid")) < 1e-6
    # Cross-entropy of one organ of nine, 20 a voxel, times three; no Dice term.
    found = float(segmentation_loss(loud, label, everything(1), "sigmoid"))
    assert found == pytest.approx(3 * 20 / 9, rel=1e-4)


def test_balance_raises_the_cost_of_a_missed_small_organ():
    label = torch.zeros((1, 20, 20, 20), dtype=torch.uint8)
    label[0, :2, :2, :2] = 2
    missed = torch.zeros((1, ORGANS, 20, 20, 20))
    plain = segmentation_loss(missed, label, everything(1), "sigmoid", 0.0)
    balanced = segmentation_loss(missed, label, everything(1), "sigmoid", 1.0)
    # 8 voxels of 8000 count sqrt(1000) times: (sqrt(1000) - 1) * 8/8000 * ln 2 / 9 * 3 more.
    expected = (math.sqrt(1000) - 1) * 8 / 8000 * math.log(2) / 9 * 3
    assert float(balanced - plain) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("balance", [0.0, 1.0])
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_a_voxel_that_could_be_any_organ_changes_nothing(activation, balance):
    logits, label = sample(ORGANS + (activation == "softmax"))
    label[:, :2] = IGNORED
    loss = segmentation_loss(logits, label, everything(), activation, balance)
    loss.backward()
    assert torch.count_nonzero(logits.grad[:, :, :2]) == 0
    assert torch.count_nonzero(logits.grad[:, :, 2:]) > 0
    other = logits.detach().clone()
    other[:, :, :2] = 7.0
    again = segmentation_loss(other, label, everything(), activation, balance)
    assert float(again) == pytest.approx(float(loss.detach()), rel=1e-6)


def test_what_is_left_counts_as_if_it_were_all_there_is():
    logits, label = sample(ORGANS)
    kept = logits.detach()[:, :, 2:], label[:, 2:]
    label[:, :2] = IGNORED
    whole = segmentation_loss(logits.detach(), label, everything(), "sigmoid")
    assert float(whole) == pytest.approx(
        float(segmentation_loss(*kept, everything(), "sigmoid")), rel=1e-5
    )
    nothing = torch.full_like(label, IGNORED)
    loss = segmentation_loss(logits, nothing, everything(), "sigmoid")
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.count_nonzero(logits.grad) == 0
