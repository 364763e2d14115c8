"""How a round is ended and the next begun, on an open studies folder."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atlas8k.campaign.learning import training
from atlas8k.campaign.reports import StopRule, Training
from atlas8k.campaign.reviewed import remaining, reviews_of
from atlas8k.campaign.stopping import stop_rule
from atlas8k.core.errors import GridMismatchError, LedgerError
from atlas8k.core.grid import Grid
from atlas8k.core.settings import Settings
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import read_grid, read_label, write_nifti
from atlas8k.labels.submission_diff import ALL
from atlas8k.services.context import Context
from atlas8k.services.device_lock import Turn
from atlas8k.services.errors import ConflictError
from atlas8k.services.scoring import Report, Scoring, Workers, log_report
from atlas8k.services.simulated_strokes import Drawn, draw
from atlas8k.services.studies.folder import ORIGINAL
from atlas8k.services.training.fine_tuning import FineTuning
from atlas8k.store import Budget, Holder, Ledger

SAME_NETWORKS = "fine-tuned, same networks"


class CampaignWork:
    """What a round needs of a studies folder with its networks, trainer and ledger.

    Safe beside a server on the same folder: labels, scores and training go through the same
    locks as the server's own.

    Parameters
    ----------
    networks
        To fine-tune: ``all``, or names with commas between them.
    workers
        Who predicts; this process by default.
    """

    def __init__(
        self,
        context: Context,
        networks: str = "all",
        report: Report = log_report,
        workers: Workers | None = None,
    ) -> None:
        self._context, self.label_service = context, context.label_service
        self._networks, self._report, self._workers = networks, report, workers
        context.sync(thorough=True)

    @property
    def ledger(self) -> Ledger:
        return self._context.ledger

    @property
    def settings(self) -> Settings:
        return self._context.settings

    @property
    def models(self) -> Path:
        """Folder of the checkpoints that are worked with."""
        return self._context.models.root

    def model_version(self) -> str:
        """Register the active networks, which ends the round before; return the version."""
        return self._context.model_version()

    def score(self) -> None:
        """Score until nothing is stale."""
        Scoring(self._context, self._report, self._workers).run()

    def train(self) -> None:
        """Fine-tune, judge, publish if no worse, and note it in the ledger.

        What a training that was interrupted had done is not done again.
        """
        try:
            FineTuning(self._context).run({"networks": self._networks})
        finally:
            self._context.note_training()

    def volumes(self) -> list[str]:
        """Return the volumes of the studies that count."""
        self._context.sync()
        gone = ("vanished", "excluded")
        return [name for name, state in self.ledger.statuses().items() if state not in gone]

    def start(self, volume: str) -> tuple[npt.NDArray[np.uint8], Grid]:
        """Return the draft label, ``(X, Y, Z)`` uint8 organ ids on the CT's grid; empty: none."""
        folder = self.label_service.folder
        grid = read_grid(folder.path / folder.known_image(volume).path)
        label = self.label_service.versions.current(volume, ORIGINAL)
        if label is None:
            return np.zeros(grid.shape, np.uint8), grid
        array = read_label(label.path).array
        if array.shape != grid.shape:
            raise GridMismatchError(label.path, f"shape {array.shape} is not that of the CT")
        return array, grid

    def places(self, volume: str) -> npt.NDArray[np.bool_]:
        """Return the voxels shown as places to look at, ``(X, Y, Z)`` on the CT's grid."""
        folder = self.label_service.folder
        path = folder.path / folder.known_image(volume).path
        grid, answers, _ = self._context.engine.answers(path, Turn.SCORING, volume)
        shown: npt.NDArray[np.bool_] = answers.attention_on(grid) > 0
        return shown

    def strokes(
        self, volume: str, draft: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8], seed: int
    ) -> tuple[Drawn, ...]:
        """Return what strokes would do to a draft label, see :func:`.simulated_strokes.draw`."""
        folder = self.label_service.folder
        grid = read_grid(folder.path / folder.known_image(volume).path)
        return draw(self._context.strokes, volume, draft, truth, grid, seed)

    def submit(
        self,
        volume: str,
        array: npt.NDArray[np.uint8],
        grid: Grid,
        absent: tuple[str, ...],
        holder: Holder,
        lease: int,
    ) -> None:
        """Submit a label as an annotator's client does."""
        params = {
            "label_info": [{"name": name, "idx": number} for name, number in ORGAN_IDS.items()],
            "absent": list(absent),
            # It knows the truth of every organ, and so that of every volume.
            "looked_at": ALL,
            "volume_is_right": list(ORGAN_IDS),
        }
        with tempfile.TemporaryDirectory(prefix="atlas8k-") as folder:
            sent = write_nifti(Path(folder) / "label.nii.gz", array, grid)
            self.label_service.submit(volume, sent, holder, params, lease=lease)


def is_open(ledger: Ledger, number: int) -> bool:
    """Return whether a round has not ended."""
    return any(one.number == number and one.closed_at is None for one in ledger.rounds())


def end_round(ledger: Ledger, note: str) -> int | None:
    """End the open round without fine-tuning; return its number, None where none was open.

    Raises
    ------
    ConflictError
        Nothing was submitted in it.
    """
    last = ledger.rounds()[-1:]
    if last and last[0].closed_at is None and not last[0].reviewed:
        raise ConflictError(
            f"round {last[0].number} is not closed: nothing was submitted in it; review the top of "
            "the list first"
        )
    return ledger.close_round({"note": note}, only_reviewed=True)


def reopen_round(ledger: Ledger) -> int:
    """Undo `end_round`: open the last round again; return its number.

    Raises
    ------
    ConflictError
        There is none, another is open, or new networks ended it.
    """
    try:
        return ledger.reopen_round()
    except LedgerError as err:
        raise ConflictError(str(err)) from err


def begin_round(context: Context) -> tuple[int, bool]:
    """Open a round, where none is, and draw its list, where every volume has a score.

    Returns
    -------
    number, drawn
        The open round, and whether it has a list now.

    Raises
    ------
    CheckpointError
        There are no networks to serve.
    """
    context.sync()
    return context.ledger.begin_round(context.model_version())


def learn(work: CampaignWork, number: int) -> Training | None:
    """Do step 7 for a round: fine-tune, and end it, whatever the gate says.

    Networks that are published end the round by themselves. Where the gate refuses, the
    round ends all the same: the next one goes on down the list with the same networks.

    Returns
    -------
    Training or None
        What became of it; None where it was not noted, as after an interruption.
    """
    work.train()
    work.model_version()
    if is_open(work.ledger, number):
        work.ledger.close_round({"note": SAME_NETWORKS}, only_reviewed=True)
    return last_training(work.ledger, number)


def last_training(ledger: Ledger, number: int) -> Training | None:
    """Return the last training of a round."""
    found = [one for one in ledger.trainings() if one.round == number]
    return training(found[-1]) if found else None


def _due(ledger: Ledger, budget: Budget, early: bool) -> bool:
    """Whether the open round has something to learn from, and nothing to wait for."""
    if not any(one.number == budget.round and one.reviewed for one in ledger.rounds()):
        return False
    return early or not remaining(ledger.plan(budget.round), budget, ledger.to_review())


@dataclass(frozen=True)
class Advanced:
    """What was done on the way to the next round.

    Attributes
    ----------
    ended
        Number of the round that was ended, None for none.
    trained
        The training that ended it.
    stop
        The stop rule of the round that was ended, None where it had no list: who runs the
        campaign is to know that it could have ended there.
    round
        The open round.
    drawn
        Its list is drawn: samples are handed out by it.
    """

    ended: int | None
    trained: Training | None
    stop: StopRule | None
    round: int
    drawn: bool


def advance(
    work: CampaignWork,
    *,
    train: bool = True,
    score: bool = True,
    early: bool = False,
    report: Callable[[str], None],
) -> Advanced:
    """Do what is due of steps 2 to 4 and 7; step 5 is for people.

    Doing it again does nothing more until somebody has submitted something.

    Parameters
    ----------
    train
        Fine-tune, and end the round, once its budget is used and its audits are done.
    score
        Predict what is stale.
    early
        Fine-tune before that, as soon as anything was submitted.
    report
        Told in a line what is done now.
    """
    ledger = work.ledger
    model_version = work.model_version()
    ended, trained, stop = None, None, None
    budget = ledger.budget()
    if train and budget is not None and _due(ledger, budget, early):
        ended = budget.round
        report(f"round {ended}: fine-tuning")
        trained = learn(work, ended)
        plan = ledger.plan(ended)
        stop = None if plan is None else stop_rule(*reviews_of(plan, ledger.worked()))
        model_version = work.model_version()
    if score and not ledger.progress(model_version).complete:
        report(f"predicting under {model_version}")
        work.score()
        model_version = work.model_version()  # published meanwhile, by a server
    number, drawn = ledger.begin_round(model_version)
    return Advanced(ended, trained, stop, number, drawn)
