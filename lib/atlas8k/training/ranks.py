"""Run one training in several processes, as torch's own launcher starts them.

::

    torchrun --nproc_per_node 4 -m atlas8k fine-tune STUDIES

Every process has a GPU and draws patches of its own; gradients are averaged after each
step, so that all of them hold the same weights. The first one alone measures, writes and
decides, and broadcasts its decisions. Without the launcher there is one process, and the
functions here change nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from atlas8k.core.errors import TrainingError

PATIENCE = timedelta(hours=2)
"""How long processes wait for the first one, which measures between epochs."""

Value = TypeVar("Value")


def launched() -> int:
    """Return how many processes torch's launcher started, 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextlib.contextmanager
def together(device: str) -> Iterator[str]:
    """Join the processes of this training for a block.

    Parameters
    ----------
    device
        As asked for; in place of ``"cuda"`` each process takes the GPU of its own number.

    Yields
    ------
    str
        This process's device.

    Raises
    ------
    TrainingError
        There are fewer GPUs than processes.
    """
    if launched() == 1:
        yield device
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    gpu = device.startswith("cuda")
    if gpu:
        if local >= torch.cuda.device_count():
            raise TrainingError(
                f"{launched()} processes and {torch.cuda.device_count()} GPUs here; give torchrun "
                "--nproc_per_node as many as there are, or train on the processor (--device cpu)"
            )
        torch.cuda.set_device(local)
        device = f"cuda:{local}"
    distributed.init_process_group("nccl" if gpu else "gloo", timeout=PATIENCE)
    try:
        yield device
    finally:
        distributed.destroy_process_group()


def size() -> int:
    """Return how many processes train."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def number() -> int:
    """Return the number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def first() -> bool:
    """Return whether this is the process that measures, writes and decides."""
    return number() == 0


def broadcast(value: Value) -> Value:
    """Return the first process's value in all of them.

    Every process must call it; the values of the others are not used.
    """
    if size() == 1:
        return value
    values: list[Any] = [value]
    distributed.broadcast_object_list(values, src=0)
    first_value: Value = values[0]
    return first_value


def mean(value: float, device: torch.device) -> float:
    """Return the mean over the processes."""
    if size() == 1:
        return value
    total = torch.tensor([value], dtype=torch.float64, device=device)
    distributed.all_reduce(total)
    return float(total) / size()


def averaged(module: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """Return the network with gradients averaged over the processes."""
    if size() == 1:
        return module
    ids = [device.index or 0] if device.type == "cuda" else None
    # Heads of deep supervision, or organs that nobody has, may go without a gradient.
    return DistributedDataParallel(module, device_ids=ids, find_unused_parameters=True)


def unsynchronised(module: torch.nn.Module) -> contextlib.AbstractContextManager[None]:
    """Return a context for a step's batches but the last: their gradients are only added."""
    if isinstance(module, DistributedDataParallel):
        context: contextlib.AbstractContextManager[None] = module.no_sync()
        return context
    return contextlib.nullcontext()
