"""What of a campaign is backed up, and where it lies."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from atlas8k import __version__
from atlas8k.campaign.learning import STATS
from atlas8k.core.files import read_json, write_json
from atlas8k.core.settings import Settings
from atlas8k.models.sets import EMBEDDED, KEPT_ASIDE, SET_FILE
from atlas8k.models.store import IMPORTED, SERVED_FILE
from atlas8k.services.archive.folder import WORKING
from atlas8k.store import is_url, locate
from atlas8k.store.usability import decisions_file

if TYPE_CHECKING:
    from atlas8k.services.context import Context

logger = logging.getLogger(__name__)

SETTINGS = "settings.json"
"""Beside the ledger: what the server was started with last, as it was told to."""
PATIENTS = "patients.csv"


@dataclass(frozen=True)
class Place:
    """Where a campaign lies.

    Attributes
    ----------
    studies
        The studies, as given to the server.
    root
        Folder that the labels lie in: the studies folder, or what is kept of an archive.
    ledger
        The ledger.
    models
        Folder of the checkpoints.
    """

    studies: str
    root: Path
    ledger: Path
    models: Path

    @classmethod
    def of(cls, studies: str, ledger: Path | None, models: Path | None, default: Path) -> Self:
        """Return the place of studies; `models` as the server was given it, else `default`."""
        path = (ledger or locate(studies)).absolute()
        root = path.parent / WORKING if is_url(studies) else Path(studies).resolve()
        if models is None:
            said = read_json(path.parent / SETTINGS).get("models")
            models = Path(said) if isinstance(said, str) and Path(said).is_dir() else default
        return cls(studies, root, path, models.absolute())

    @property
    def state(self) -> Path:
        """Folder of the ledger and what lies beside it."""
        return self.ledger.parent

    def folder(self, root: str) -> Path:
        """Return the folder that paths of a backup's files are relative to."""
        return {"studies": self.root, "state": self.state, "models": self.models}[root]

    def settings(self) -> dict[str, Any]:
        """Return what the server was started with last; empty where no server was."""
        try:
            return read_json(self.state / SETTINGS)
        except (OSError, ValueError):
            return {}

    def state_files(self) -> list[Path]:
        """Return what lies beside the ledger and is nowhere else."""
        found = [decisions_file(self.ledger), self.state / SETTINGS]
        return [path for path in found if path.is_file()]

    def model_files(self) -> list[Path]:
        """Return published sets, imported networks, and which is served."""
        named = [self.models / SERVED_FILE, self.models / STATS]
        folders = [path.parent for path in self.models.glob(f"[!.]*/{SET_FILE}")]
        folders += [self.models / IMPORTED, self.models / KEPT_ASIDE]
        for folder in folders:
            if folder.name != EMBEDDED:
                named += sorted(folder.rglob("*"))
        return [
            path
            for path in named
            if path.is_file() and not any(part.startswith(".") for part in path.parts[-2:])
        ]

    def embedded_files(self) -> list[Path]:
        """Return the networks that come with the program."""
        return sorted((self.models / EMBEDDED).glob("*.safetensors"))


def note_settings(context: Context, conf: Mapping[str, Any]) -> None:
    """Write down beside the ledger what a server was started with, for backups.

    Parameters
    ----------
    conf
        Its ``--conf`` pairs; no setting is a secret.
    """
    own = {key: str(value) for key, value in conf.items() if key in Settings.model_fields}
    try:
        write_json(
            context.state / SETTINGS,
            {"conf": own, "models": str(context.models.root.absolute()), "release": __version__},
        )
    except OSError as error:  # nothing that serves needs it
        logger.warning("%s cannot be written: %s", context.state / SETTINGS, error)
