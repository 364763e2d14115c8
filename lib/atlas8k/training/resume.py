"""Go on with a training that was interrupted, if it still is the same one.

The same: the networks it began from, every setting that the weights depend on, and the
cases with what is learned from them. Then its weights at the end are those of a training
that was never interrupted.

Labels may also have been *added* since, as by an annotator whose client stops a training at
every submission and starts it again. Then it goes on too, and sees them from its next epoch
on: were it to begin anew, no training would end while people work. Added means that all it
has learned from stands: no volume is gone or on the held-out side now, and none has another
label in which no further organ is labeled. Anything else begins anew, since something was
learned that nobody stands for any more.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import shutil
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from atlas8k.core.errors import TrainingError
from atlas8k.core.files import publishing, write_json
from atlas8k.models.checkpoint import Checkpoint
from atlas8k.models.sets import file_sha256
from atlas8k.training import ranks
from atlas8k.training.config import TrainingConfig
from atlas8k.training.data import Case, TrainingCase
from atlas8k.training.split import split

logger = logging.getLogger(__name__)

IDENTITY = "training.json"
FREE = {"device", "workers", "validate_every", "accumulate", "cache_gb"}
"""Settings that no weight depends on."""

Cases = Mapping[str, Mapping[str, Any]]
"""By a hash of the name: ``trained`` on or not, ``organs`` that people have labeled, and
keys of the files of ``label`` and ``ct``."""


def state_folder(
    root: Path,
    served: Mapping[str, Path | Checkpoint],
    networks: Sequence[str],
    cases: Sequence[Case],
    config: TrainingConfig,
    trained_on: Container[str] = (),
) -> Path:
    """Prepare the folder for a training's state, emptied unless this training goes on from it.

    Parameters
    ----------
    root
        The folder; made if missing.
    served
        Networks that the training starts from, or their files, by name.
    trained_on
        As in :func:`~atlas8k.training.finetune.fine_tune`.

    Raises
    ------
    OSError
        It cannot be written.
    CheckpointError
        A file of `served` cannot be read.
    """
    identity: dict[str, Any] = {
        "config": config.model_dump(mode="json", exclude=FREE),
        "batches": config.accumulate * ranks.size(),
        "networks": {name: _sha256(served[name]) for name in networks},
        "cases": _cases(cases, config, trained_on),
    }
    file = root / IDENTITY
    before, times = _read(file)
    if before == identity:
        logger.info("going on with the training that was interrupted")
        return root
    if before is not None:
        changed = [key for key in identity if before.get(key) != identity[key]]
        if changed == ["cases"] and (more := added(before["cases"], identity["cases"])):
            logger.info("going on with the training that was interrupted, %s", more)
            _write(file, identity, times + 1)
            return root
        logger.info(
            "an interrupted training was another one (%s differ); beginning anew",
            ", ".join(changed),
        )
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    _write(file, identity, 0)
    return root


def times_added(root: Path) -> int:
    """Return how often labels were added to the training whose state is in a folder."""
    return _read(root / IDENTITY)[1]


def added(before: Cases, now: Cases) -> str:
    """Return one line on the labels added to a training; empty where more has changed."""
    trained_now = {key: now.get(key, {}) for key, case in before.items() if case["trained"]}
    more_organs = 0
    for key, case in trained_now.items():
        earlier = before[key]
        if not case.get("trained") or case["ct"] != earlier["ct"]:
            return ""
        organs, organs_before = set(case["organs"]), set(earlier["organs"])
        if not organs >= organs_before:
            return ""
        if case["label"] != earlier["label"] and organs == organs_before:
            return ""
        more_organs += organs > organs_before
    new_cases = [case["trained"] for key, case in now.items() if key not in before]
    return (
        f"with what was labeled since: {len(new_cases)} more volumes, {new_cases.count(False)} of "
        f"them to measure on, and more organs of {more_organs}"
    )


def _cases(
    cases: Sequence[Case], config: TrainingConfig, trained_on: Container[str]
) -> dict[str, dict[str, Any]]:
    training, _ = split(cases, config.validation, trained_on)
    learned = {case.name for case in training}
    return {
        # The file may lie in a folder that is not for names of patients.
        hashlib.sha256(case.name.encode()).hexdigest(): {
            "trained": case.name in learned,
            **(_files(case) if isinstance(case, TrainingCase) else _NO_FILES),
        }
        for case in cases
    }


_NO_FILES: Mapping[str, Any] = {"organs": [], "label": [], "ct": []}
"""Record of a case that its name determines, as a phantom's does."""


def _files(case: TrainingCase) -> dict[str, Any]:
    """Return the record of what is learned from a case: organs, label and CT."""
    ct, label = case.ct_path.stat(), [case.content]
    if not case.content:
        label = [file_sha256(path) for path in (case.label_path, case.ignore_path) if path]
    return {
        "organs": list(case.known_organs),
        "label": [*label, *case.pseudo_organs],
        "ct": [ct.st_size, ct.st_mtime_ns],
    }


def _sha256(network: Path | Checkpoint) -> str:
    """Return the hex sha256 of a network's file, or of its weights."""
    if isinstance(network, Path):
        return file_sha256(network)
    digest = hashlib.sha256(repr(sorted(network.architecture.items())).encode())
    for key, tensor in sorted(network.state.items()):
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _write(file: Path, identity: Mapping[str, Any], times: int) -> None:
    write_json(file, {"training": identity, "added": times})


def _read(file: Path) -> tuple[dict[str, Any] | None, int]:
    """Read what :func:`_write` wrote; ``None`` without a file, empty where it is damaged."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        training, times = record["training"], int(record["added"])
    except FileNotFoundError:
        return None, 0
    except (OSError, ValueError, KeyError, TypeError):
        return {}, 0
    if not isinstance(training, dict) or not _readable(training.get("cases")):
        return {}, 0
    return training, times


def _readable(cases: object) -> bool:
    """Return whether cases are in the form that this release writes."""
    return isinstance(cases, dict) and all(
        isinstance(case, dict) and {"trained", "organs", "label", "ct"} <= case.keys()
        for case in cases.values()
    )


class StateError(TrainingError):
    """A training cannot go on from a state file."""


class Average:
    """Exponential moving average of a network's weights.

    Parameters
    ----------
    module
        The network whose weights are averaged; the first average is a copy of them.
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
        """Add the weights after a step to the average."""
        self.steps += 1
        decay = min(self.decay, self.steps / (10 + self.steps)) if self.decay else 0.0
        mean = dict(self.module.state_dict())
        for key, value in module.state_dict().items():
            if value.is_floating_point():
                mean[key].lerp_(value, 1 - decay)
            else:
                mean[key].copy_(value)

    def state(self) -> dict[str, torch.Tensor]:
        """Return a copy of the averaged state dict, float32 on the CPU."""
        return {
            key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for key, value in self.module.state_dict().items()
        }


@dataclass
class TrainingState:
    """State of one network's training, to go on from.

    Attributes
    ----------
    identity
        Text that must be equal to go on (:func:`identity_of`).
    epoch, step, seconds
        Epochs and steps done, and time spent.
    """

    identity: str
    module: torch.nn.Module
    optimiser: torch.optim.Optimizer
    average: Average
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        """Write the state after an epoch; complete or not at all.

        Raises
        ------
        TrainingError
            It cannot be written.
        """
        content = {
            "training": self.identity,
            "module": self.module.state_dict(),
            "average": self.average.module.state_dict(),
            "average_steps": self.average.steps,
            "optimiser": self.optimiser.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
        }
        try:
            with publishing(path) as temporary:
                torch.save(content, temporary)
        except (OSError, RuntimeError) as err:  # torch says a full disk in its own words
            raise TrainingError(
                f"{path}: the state of the training cannot be written ({err}); see that there is "
                "space and that the folder may be written to"
            ) from err

    def load(self, path: Path) -> None:
        """Load a saved state.

        Raises
        ------
        StateError
            The file is not readable or is the state of another training.
        """
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            if content["training"] != self.identity:
                raise StateError(
                    f"{path}: the state of another training; remove it to begin anew, or use "
                    "its settings to go on"
                )
            self.module.load_state_dict(content["module"])
            self.average.module.load_state_dict(content["average"])
            self.average.steps = content["average_steps"]
            self.optimiser.load_state_dict(content["optimiser"])
            self.epoch, self.step = int(content["epoch"]), int(content["step"])
            self.seconds = float(content["seconds"])
        except StateError:
            raise
        except Exception as err:  # a damaged archive raises what its layers raise
            raise StateError(
                f"{path}: not a readable training state ({err}); remove it to begin anew"
            ) from err


def identity_of(config: TrainingConfig, start: Checkpoint) -> str:
    """Return a text that must be equal for a state to fit; device and length may differ."""
    settings = config.model_dump_json(exclude=FREE | {"epochs", "minutes", "memory_mb"})
    # As many batches a step, on however many processes, are the same training.
    batches = config.accumulate * ranks.size()
    architecture = sorted(start.architecture.items())
    network = f"{start.name} {architecture} {start.organs} {start.preprocessing}"
    return f"{network} {batches} {settings}"
