"""A studies folder as a place to work at without a server, for the campaign's commands."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atlas8k.cli.opening import context_of, ledger_of
from atlas8k.core.errors import GridMismatchError
from atlas8k.core.grid import Grid
from atlas8k.core.settings import Settings
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import read_grid, read_label, write_nifti
from atlas8k.labels.submission_diff import ALL
from atlas8k.services.context import Context
from atlas8k.services.labels.service import LabelService
from atlas8k.services.scoring import Report, Scoring, log_report
from atlas8k.services.studies.folder import ORIGINAL
from atlas8k.services.training.fine_tuning import FineTuning
from atlas8k.store import Holder, Ledger, locate


class ContextWork:
    """:class:`~atlas8k.campaign.work.Workplace` of an open context.

    Safe beside a server on the same folder: labels, scores and training go through the same
    locks as the server's own.

    Parameters
    ----------
    networks
        To fine-tune: ``all``, or names with commas between them.
    """

    def __init__(
        self, context: Context, networks: str = "all", report: Report = log_report
    ) -> None:
        self._context, self._desk = context, context.desk
        self._networks, self._report = networks, report
        context.sync(thorough=True)

    @property
    def ledger(self) -> Ledger:
        return self._context.ledger

    @property
    def desk(self) -> LabelService:
        return self._desk

    @property
    def settings(self) -> Settings:
        return self._context.settings

    @property
    def models(self) -> Path:
        """Folder of the checkpoints that are worked with."""
        return self._context.store.root

    def signature(self) -> str:
        return self._context.signature()

    def score(self) -> None:
        Scoring(self._context, self._report).run()

    def train(self) -> None:
        try:
            FineTuning(self._context).run({"networks": self._networks})
        finally:
            self._context.note_training()

    def volumes(self) -> list[str]:
        self._context.sync()
        gone = ("vanished", "excluded")
        return [name for name, state in self.ledger.statuses().items() if state not in gone]

    def start(self, volume: str) -> tuple[npt.NDArray[np.uint8], Grid]:
        self._desk.reconciler.reconcile(volume)
        folder = self._desk.folder
        grid = read_grid(folder.path / folder.known_image(volume).path)
        label = self._desk.versions.current(volume, ORIGINAL)
        if label is None:
            return np.zeros(grid.shape, np.uint8), grid
        array = read_label(label.path).array
        if array.shape != grid.shape:
            raise GridMismatchError(label.path, f"shape {array.shape} is not that of the CT")
        return array, grid

    def submit(
        self,
        volume: str,
        array: npt.NDArray[np.uint8],
        grid: Grid,
        absent: tuple[str, ...],
        holder: Holder,
        lease: int,
    ) -> None:
        params = {
            "label_info": [{"name": name, "idx": number} for name, number in ORGAN_IDS.items()],
            "absent": list(absent),
            # It knows the truth of every organ, and so that of every volume.
            "looked_at": ALL,
            "volume_is_right": list(ORGAN_IDS),
        }
        with tempfile.TemporaryDirectory(prefix="atlas8k-") as folder:
            sent = write_nifti(Path(folder) / "label.nii.gz", array, grid)
            self._desk.submit(volume, sent, holder, params, lease=lease)


@contextmanager
def opened(
    studies: str | Path,
    models: Path,
    conf: Mapping[str, str],
    *,
    networks: str = "all",
    report: Report = log_report,
) -> Iterator[ContextWork]:
    """Open a folder to work at; closed at the end of the block.

    Where `conf` names no budget, the last round's goes on.
    """
    settings = dict(conf)
    if not settings.get("budget"):
        settings["budget"] = last_budget(studies, settings.get("ledger", ""))
    with context_of(settings, studies, models) as context:
        yield ContextWork(context, networks, report)


def record_settings(
    work: ContextWork,
    conf: Mapping[str, str],
    audit_percent: float | None,
    stop_after: int | None,
) -> None:
    """Record in the ledger what a command was given, as an option or else with ``--conf``.

    Parameters
    ----------
    conf
        What `work` was opened with; a budget in it is the next round's.
    """
    settings = work.settings
    work.ledger.set_campaign(
        audit_percent=settings.audit_percent if audit_percent is None else audit_percent,
        stop_after=settings.stop_after if stop_after is None else stop_after,
        budget=settings.budget if conf.get("budget") else None,
    )


def last_budget(studies: str | Path, ledger: str) -> str:
    """Return the budget of the last round, ``""`` where there was none: the usual one."""
    path = Path(ledger) if ledger else locate(str(studies))
    if not path.exists():
        return ""
    with ledger_of(str(studies), path) as book:
        rounds = book.rounds()
    return str(rounds[-1].budget) if rounds else ""
