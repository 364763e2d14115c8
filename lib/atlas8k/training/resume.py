"""A training that was killed goes on where it was, if it is still the same one.

The same: the networks it began from, the cases with their labels byte for byte, which of
them are trained on, and every setting that the weights depend on. Anything else begins
anew, since its result would be that of no training that could be named.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from atlas8k.models.sets import file_sha256
from atlas8k.training import ranks
from atlas8k.training.config import TrainingConfig
from atlas8k.training.data import TrainingCase
from atlas8k.training.finetune import held_out
from atlas8k.volume import publish

logger = logging.getLogger(__name__)

IDENTITY = "training.json"
FREE = {"device", "workers", "validate_every", "accumulate", "cache_gb"}
"""Settings that no weight depends on."""


def state_folder(
    root: Path,
    served: Mapping[str, Path],
    networks: Sequence[str],
    cases: Sequence[TrainingCase],
    config: TrainingConfig,
    seen: Container[str] = (),
) -> Path:
    """The folder for a training's state, emptied unless it holds one of this training.

    Parameters
    ----------
    root
        The folder; made if missing.
    served
        Files the networks are trained on from, by name.
    seen
        As in :func:`~atlas8k.training.finetune.fine_tune`.

    Raises
    ------
    OSError
        It cannot be written.
    CheckpointError
        A file of `served` cannot be read.
    """
    identity = {
        "config": config.model_dump(mode="json", exclude=FREE),
        "batches": config.accumulate * ranks.size(),
        "networks": {name: file_sha256(served[name]) for name in networks},
        "cases": [_case(case, config, seen) for case in cases],
    }
    file = root / IDENTITY
    before = _read(file)
    if before == identity:
        logger.info("going on with the training that was interrupted")
        return root
    if before is not None:
        changed = [key for key in identity if before.get(key) != identity[key]]
        logger.info(
            "an interrupted training was another one (%s differ); beginning anew",
            ", ".join(changed),
        )
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    temporary = root / f".{IDENTITY}.part"
    temporary.write_text(json.dumps(identity), encoding="utf-8")
    publish(temporary, file)
    return root


def _case(case: TrainingCase, config: TrainingConfig, seen: Container[str]) -> list[Any]:
    ct = case.ct_path.stat()
    return [
        # The file may lie in a folder that is not for names of patients.
        hashlib.sha256(case.name.encode()).hexdigest(),
        held_out(case.name, config.validation, seen),
        list(case.known_organs),
        file_sha256(case.label_path),
        None if case.ignore_path is None else file_sha256(case.ignore_path),
        [ct.st_size, ct.st_mtime_ns],
    ]


def _read(file: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
