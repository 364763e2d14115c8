"""What a training needs to go on where it was: weights, their average, the optimiser."""

from __future__ import annotations

import copy
import os
import tempfile
from pathlib import Path

import torch

from atlas8k.errors import TrainingError
from atlas8k.models.checkpoint import Checkpoint
from atlas8k.training import ranks
from atlas8k.training.config import TrainingConfig
from atlas8k.volume import publish


class StateError(TrainingError):
    """A state file that this training cannot go on from."""


class Average:
    """Exponential moving average of a network's weights.

    Parameters
    ----------
    module
        Whose weights are averaged; the first average is a copy of them.
    decay
        Per step. It begins smaller, so that a short training is not held back by the
        weights it began with. 0 follows the network.
    """

    def __init__(self, module: torch.nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).eval()
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, module: torch.nn.Module) -> None:
        """Take in the weights after a step."""
        self.steps += 1
        decay = min(self.decay, self.steps / (10 + self.steps)) if self.decay else 0.0
        mean = dict(self.module.state_dict())
        for key, value in module.state_dict().items():
            if value.is_floating_point():
                mean[key].lerp_(value, 1 - decay)
            else:
                mean[key].copy_(value)

    def state(self) -> dict[str, torch.Tensor]:
        """A copy of the averaged state dict, float32 on the CPU."""
        return {
            key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for key, value in self.module.state_dict().items()
        }


def save_state(
    path: Path,
    config: TrainingConfig,
    module: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    average: Average,
    start: Checkpoint,
    epoch: int,
    step: int,
    seconds: float,
) -> None:
    """Write the state after an epoch; complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        torch.save(
            {
                "training": _identity(config, start),
                "module": module.state_dict(),
                "average": average.module.state_dict(),
                "average_steps": average.steps,
                "optimiser": optimiser.state_dict(),
                "epoch": epoch,
                "step": step,
                "seconds": seconds,
            },
            temporary,
        )
        publish(temporary, path)
    except (OSError, RuntimeError) as err:  # torch says a full disk in its own words
        raise TrainingError(
            f"{path}: the state of the training cannot be written ({err}); see that there is "
            "space and that the folder may be written to"
        ) from err
    finally:
        temporary.unlink(missing_ok=True)


def load_state(
    path: Path,
    config: TrainingConfig,
    module: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    average: Average,
    start: Checkpoint,
) -> tuple[int, int, float]:
    """Take up a state: epochs and steps done, seconds spent.

    Raises
    ------
    StateError
        The file is not readable or is the state of another training.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["training"] != _identity(config, start):
            raise StateError(
                f"{path}: the state of another training; remove it to begin anew, or use "
                "its settings to go on"
            )
        module.load_state_dict(state["module"])
        average.module.load_state_dict(state["average"])
        average.steps = state["average_steps"]
        optimiser.load_state_dict(state["optimiser"])
        return int(state["epoch"]), int(state["step"]), float(state["seconds"])
    except StateError:
        raise
    except Exception as err:  # a damaged archive raises what its layers raise
        raise StateError(
            f"{path}: not a readable training state ({err}); remove it to begin anew"
        ) from err


def _identity(config: TrainingConfig, start: Checkpoint) -> str:
    """What must be equal for a state to fit; where and how long may differ."""
    free = {
        "epochs",
        "minutes",
        "device",
        "workers",
        "memory_mb",
        "validate_every",
        "accumulate",
        "cache_gb",
    }
    settings = config.model_dump_json(exclude=free)
    # As many batches a step, on however many processes, are the same training.
    batches = config.accumulate * ranks.size()
    architecture = sorted(start.architecture.items())
    network = f"{start.name} {architecture} {start.organs} {start.preprocessing}"
    return f"{network} {batches} {settings}"
