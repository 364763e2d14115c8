"""Trained networks that are not served, with the reason.

::

    model/kept-aside/<UTC time>/{<network>.safetensors, gate.json}

They are never served by themselves; the last few stay, to be looked at.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from atlas8k.core.errors import CheckpointError
from atlas8k.core.files import write_json
from atlas8k.models.checkpoint import Checkpoint, save_checkpoint
from atlas8k.models.sets import KEPT_ASIDE, SUFFIX

logger = logging.getLogger(__name__)

REASON = "gate.json"
KEPT = 3


def keep_aside(root: Path, networks: Mapping[str, Checkpoint], why: Mapping[str, Any]) -> Path:
    """Store networks that are not to be served, with the reason; their folder.

    Raises
    ------
    OSError
        Not even the reason can be written.
    """
    folder = root / KEPT_ASIDE
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".*"):  # by a training that was killed here; there is one at a time
        shutil.rmtree(left, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=".", dir=folder))
    try:
        for name, checkpoint in networks.items():
            try:
                save_checkpoint(made / f"{name}{SUFFIX}", checkpoint)
            except CheckpointError as error:
                logger.warning("%s is not kept: %s", name, error)
        write_json(made / REASON, why)
        made.chmod(0o755)
        target = folder / datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
        os.replace(made, target)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    for old in sorted(path for path in folder.iterdir() if path.name[0] != ".")[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return target
