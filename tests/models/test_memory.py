"""MemoryPlans get smaller one step at a time, and only where memory is what is short."""

from __future__ import annotations

import logging
import platform

import numpy as np
import pytest
import torch
from tests.models.tiny import body_ct, tiny

from atlas8k.core.errors import PredictionError
from atlas8k.models.predict import Predictor
from atlas8k.models.resources import MemoryPlan, is_out_of_memory, keep_freed_memory

CPU, GPU = torch.device("cpu"), torch.device("cuda", 1)


def test_the_room_to_begin_with():
    assert MemoryPlan.of(CPU, (64, 64, 64), None) == MemoryPlan(CPU, 2)
    assert MemoryPlan.of(CPU, (96, 96, 96), None) == MemoryPlan(CPU, 1)
    assert MemoryPlan.of(GPU, (96, 96, 96), None) == MemoryPlan(GPU, 4)
    assert MemoryPlan.of(GPU, (96, 96, 96), 7) == MemoryPlan(GPU, 7)


def test_from_a_gpu_to_nothing():
    steps, room = [], MemoryPlan(GPU, 4)
    while room is not None:
        steps.append(str(room))
        room = room.smaller()
    assert steps == [
        "batch 4 on cuda:1",
        "batch 2 on cuda:1",
        "batch 1 on cuda:1",
        "batch 1 on cuda:1, sums in the computer's memory",
        "batch 1 on cpu",
    ]


@pytest.mark.parametrize(("free", "expected"), [(1 << 30, CPU), (1 << 32, GPU)])
def test_sums_lie_where_they_fit(monkeypatch, free, expected):
    # What a GPU answers; there need be none here.
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 1 << 33))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 1 << 29)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1 << 28)
    assert MemoryPlan(GPU, 1).for_sums(1 << 30) == expected
    assert MemoryPlan(GPU, 1, sums_on_host=True).for_sums(1) == CPU
    assert MemoryPlan(CPU, 1).for_sums(1 << 60) == CPU


def test_what_says_that_memory_is_short():
    with pytest.raises(RuntimeError) as real:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(real.value)
    with pytest.raises(MemoryError) as real:
        np.empty(1 << 60, dtype=np.uint8)
    assert is_out_of_memory(real.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert is_out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"))
    with pytest.raises(RuntimeError) as real:
        torch.rand(2, 3) @ torch.rand(2, 3)
    assert not is_out_of_memory(real.value)
    assert not is_out_of_memory(ValueError("out of memory"))


def hungry(predictor, windows):
    """Have the network ask for more than there is whenever it gets more windows than so many."""
    seen = []

    def ask(module, inputs):
        seen.append(len(inputs[0]))
        if len(inputs[0]) > windows:
            torch.empty(1 << 60, dtype=torch.uint8)

    predictor._networks["unet"][1].register_forward_pre_hook(ask)
    return seen


def test_memory_that_is_really_short(caplog):
    ct, networks = body_ct(), {"unet": tiny("unet")}
    expected = Predictor(networks, grid_mm=6.0, batch=1).predict(ct)
    predictor = Predictor(networks, grid_mm=6.0, batch=4)
    seen = hungry(predictor, 2)
    with caplog.at_level(logging.WARNING):
        found = predictor.predict(ct)
    assert seen[:2] == [4, 2]
    assert "going on with batch 2 on cpu" in caplog.text
    assert not found.failures
    assert np.abs(found.probs.astype(np.float32) - expected.probs).max() < 1e-3
    seen.clear()
    predictor.predict(ct)
    assert max(seen) == 2, "what is known is not tried again"


def test_where_nothing_helps_the_network_is_out():
    predictor = Predictor({"unet": tiny("unet")}, grid_mm=6.0, batch=2)
    seen = hungry(predictor, 0)
    with pytest.raises(PredictionError, match="allocate memory"):
        predictor.predict(body_ct())
    assert seen == [2, 1]


def test_freed_memory_is_kept_where_the_library_can():
    # That it spares faults is measured, not tested: it depends on all that was freed before.
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
