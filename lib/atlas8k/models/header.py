"""Read the description in a checkpoint's header, without its tensors and without torch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import safetensors

from atlas8k.core.errors import CheckpointError

FORMAT = "atlas8k-checkpoint/1"
METADATA_KEY = "atlas8k"
# One header key only: safetensors writes several in random order, and equal
# checkpoints must be equal files for the model version to mean something.
FIELDS = ("format", "name", "architecture", "activation", "preprocessing", "organs", "origin")


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the JSON description in a checkpoint's header, without its tensors.

    Raises
    ------
    CheckpointError
        Names the file and what is wrong: no safetensors file, not of this project or of
        another format version, description incomplete.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(path, "no such file")
    try:
        with safetensors.safe_open(path, framework="np") as stream:
            entries = stream.metadata() or {}
    except (safetensors.SafetensorError, OSError) as err:
        raise CheckpointError(
            path, f"not a complete safetensors file ({err}); weights of other kinds need importing"
        ) from err
    if METADATA_KEY not in entries:
        raise CheckpointError(
            path,
            f"a safetensors file without the {METADATA_KEY!r} description: "
            "it does not say which network and which preprocessing it needs",
        )
    try:
        header = json.loads(entries[METADATA_KEY])
    except ValueError as err:
        raise CheckpointError(path, f"its description is not JSON ({err})") from err
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        actual = header.get("format") if isinstance(header, dict) else header
        raise CheckpointError(path, f"format {actual!r}; this version reads {FORMAT!r}")
    missing = [name for name in FIELDS if name not in header]
    if missing:
        raise CheckpointError(path, f"its description lacks {', '.join(missing)}")
    return header
