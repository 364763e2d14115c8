"""Workers: order, one failure, and threads as they were."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
from tests.models.tiny import tiny

from atlas8k.models.checkpoint import network
from atlas8k.models.resources import map_in_order
from atlas8k.models.windows import probabilities, tile


@pytest.fixture
def four_threads():
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(1)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_order_whichever_is_ready_first(workers):
    def work(n):
        time.sleep(0.01 * (n % 3 == 0))
        return -n

    assert list(map_in_order(work, range(12), workers)) == [(n, -n) for n in range(12)]


def test_so_many_at_once_each_with_its_share(four_threads):
    both = threading.Barrier(2, timeout=20)

    def work(n):
        both.wait()  # passes only when two are at work
        return torch.get_num_threads()

    assert [share for _, share in map_in_order(work, range(6), 2)] == [2] * 6
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize("workers", [1, 3])
def test_a_failure_ends_it(four_threads, workers):
    begun = []

    def work(n):
        begun.append(n)
        if n == 2:
            raise ValueError("window 2")
        return n

    with pytest.raises(ValueError, match="window 2"):
        list(map_in_order(work, range(100), workers))
    assert len(begun) < 20
    assert torch.get_num_threads() == 4


def test_probabilities_do_not_depend_on_workers(four_threads):
    checkpoint = tiny("nnunet")
    array = np.random.default_rng(0).random((37, 20, 45)).astype(np.float32)
    found = [
        probabilities(
            network(checkpoint),
            array,
            tile(array, (16, 16, 16), 0.5),
            channels=checkpoint.out_channels,
            softmax=True,
            batch=2,
            workers=workers,
        )
        for workers in (1, 4)
    ]
    # A network's own sums may differ in the last bit with the threads it has.
    assert torch.allclose(*found, atol=1e-3)
    assert not found[1].requires_grad
