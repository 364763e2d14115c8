"""Networks that were brought: kept beside the served sets until they are served.

::

    model/
      imported/<name>.safetensors     brought, not served by itself
      <signature>/...                 a published set, which may hold copies of them
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from atlas8k.errors import CheckpointError
from atlas8k.models.header import read_description
from atlas8k.models.sets import SUFFIX, file_sha256
from atlas8k.models.store import ModelStore

if TYPE_CHECKING:
    from atlas8k.models.checkpoint import Checkpoint

FOLDER = "imported"


@dataclass(frozen=True)
class Network:
    """A network on this machine.

    Attributes
    ----------
    name, file
        What it is called, and where it is.
    architecture
        Name of its class.
    organs
        It segments.
    origin
        Where its weights come from, in a few words; `sha256` is of the file they came in,
        or of `file` where they were made here.
    size
        Of `file`, bytes.
    served
        Whether the app predicts with it.
    problem
        Why it cannot be used; empty where it can.
    """

    name: str
    file: Path
    architecture: str = ""
    organs: tuple[str, ...] = ()
    origin: str = ""
    sha256: str = ""
    size: int = 0
    served: bool = False
    problem: str = ""


class Installed:
    """The folder of networks that were brought.

    Parameters
    ----------
    root
        Of a :class:`~atlas8k.models.store.ModelStore`.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.folder = Path(root) / FOLDER

    def save(self, checkpoint: Checkpoint, replace: bool = False) -> Path:
        """Keep a network, weights as float32 so that it predicts what it did.

        Raises
        ------
        CheckpointError
            Its tensors do not fit, or one of its name is there and `replace` is not set.
        """
        from atlas8k.models.checkpoint import save_checkpoint

        path = self.folder / f"{checkpoint.name}{SUFFIX}"
        if path.exists() and not replace:
            raise CheckpointError(
                path, "is there already; give another --name, or --replace to put this in its place"
            )
        return save_checkpoint(path, checkpoint, half=False)

    def load(self, name: str) -> Checkpoint:
        """A network by name.

        Raises
        ------
        CheckpointError
            There is none, or it is damaged.
        """
        path = self.folder / f"{name}{SUFFIX}"
        if name != Path(name).name or not path.is_file():
            there = ", ".join(sorted(p.stem for p in self.folder.glob(f"[!.]*{SUFFIX}")))
            raise CheckpointError(path, f"no such network; brought are: {there or 'none'}")
        from atlas8k.models.checkpoint import load_checkpoint

        return load_checkpoint(path)


def installed_networks(store: ModelStore) -> list[Network]:
    """Networks that are served, in their order, then those that were brought and are not.

    A network counts as served where the served set has one of its name from the same
    source. Files are not loaded: only their descriptions are read.
    """
    served = [_describe(n, p, served=True) for n, p in store.served().checkpoints.items()]
    known = {(network.name, network.sha256) for network in served}
    others = [
        _describe(path.stem, path, served=False)
        for path in sorted((store.root / FOLDER).glob(f"[!.]*{SUFFIX}"))
    ]
    return served + [n for n in others if (n.name, n.sha256) not in known]


def _describe(name: str, path: Path, served: bool) -> Network:
    try:
        header = read_description(path)
        origin = dict(header["origin"])
        kind = origin.get("imported_as")
        words = f"{kind}: {origin.get('file', '')}" if kind else _made_here(origin)
        return Network(
            name=name,
            file=path,
            architecture=str(header["architecture"]["name"]),
            organs=tuple(header["organs"]),
            origin=words,
            sha256=str(origin["sha256"] if "sha256" in origin else file_sha256(path)),
            size=path.stat().st_size,
            served=served,
        )
    except (CheckpointError, KeyError, TypeError, ValueError, OSError) as err:
        return Network(name=name, file=path, served=served, problem=str(err))


def _made_here(origin: dict[str, object]) -> str:
    return f"trained on {origin['cases']} volumes" if "cases" in origin else "not stated"
