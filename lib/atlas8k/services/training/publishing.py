"""What becomes of trained networks: measured against the served ones, published or kept aside.

The set they are measured against is the one that is served when it comes to that: after hours
of training it may be another than the one they were trained from. It must be served still
when they are published, or they are measured again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from atlas8k.core.errors import ServedChangedError
from atlas8k.models.checkpoint import Checkpoint
from atlas8k.models.ensemble import EnsembleSettings
from atlas8k.models.sets import KEPT_ASIDE, ServedSet, comes_from
from atlas8k.models.store import ModelStore
from atlas8k.services.training.cases import Seen
from atlas8k.services.training.kept_aside import keep_aside
from atlas8k.training.config import TrainingConfig
from atlas8k.training.data import TrainingCase
from atlas8k.training.gate import TOGETHER, Decision, decide
from atlas8k.training.measuring import measure_both
from atlas8k.training.split import patient_of, split, stratified
from atlas8k.training.time_budget import OWN_DEVICE, SharedDevice

logger = logging.getLogger(__name__)

MOST_HELD_OUT = 50
"""Held-out cases that are measured: a paired test gains little from more, and each costs two
predictions."""
MOST_TRAINED = 8
"""Cases that are measured where none is held out."""

OFF = "the gate is off: networks are published without being compared with the served ones"


@dataclass(frozen=True)
class Outcome:
    """What is to become of trained networks.

    Attributes
    ----------
    gate
        For the statistics: ``publish``, ``refused`` and what was compared.
    said
        On what they are published.
    warnings
        What the decision could not look at.
    """

    gate: dict[str, Any]
    said: str = ""
    warnings: tuple[str, ...] = ()

    @classmethod
    def unseen(cls, trained: Mapping[str, Checkpoint]) -> Self:
        """All of them are published, since the gate is off."""
        logger.warning(OFF)
        gate = {"on": False, "publish": list(trained), "refused": {}, "warnings": [OFF]}
        return cls(gate, OFF)

    @classmethod
    def passed_over(cls, why: str, *, gate: bool) -> Self:
        """None of them is, whatever they are like."""
        return cls({"on": gate, "publish": [], "refused": {TOGETHER: why}, "warnings": []})

    @classmethod
    def of(cls, decision: Decision, count: int) -> Self:
        """As was decided on so many cases."""
        for warning in decision.warnings:
            logger.warning("gate: %s", warning)
        said = f"no worse on {count} cases ({decision.basis}), margin {decision.margin:g} DSC"
        together = decision.verdicts.get(TOGETHER)
        if together is not None and together.added:
            new = (f"{o} {dsc:.2f} ({n} cases)" for o, (n, dsc) in together.added.items())
            said += f"; new, DSC of the ensemble: {', '.join(new)}"
        return cls({"on": True, "cases": count, **decision.as_json()}, said, decision.warnings)

    @property
    def publish(self) -> list[str]:
        """Names of the networks that are published."""
        return list(self.gate["publish"])

    def message(self, model_version: str) -> str:
        """One line, where `model_version` is served from now on."""
        refused: Mapping[str, str] = self.gate["refused"]
        reason = "; ".join(f"{name}: {why}" for name, why in refused.items())
        if not self.publish:
            text = f"not published, {model_version} is served still: {reason}"
        elif refused:
            names = ", ".join(self.publish)
            text = f"{names} published, served as {model_version}; not published: {reason}"
        elif self.gate["on"]:
            text = f"published, served as {model_version}: {self.said}"
        else:
            text = f"networks {model_version} are served; {self.said}"
        return "; ".join([text, *self.warnings])


def settle(
    store: ModelStore,
    served: ServedSet,
    trained: Mapping[str, Checkpoint],
    cases: Sequence[TrainingCase],
    config: TrainingConfig,
    *,
    gate: bool,
    margin: float,
    overlap: float | None,
    ensemble: EnsembleSettings | None = None,
    place: SharedDevice = OWN_DEVICE,
    pseudo: Sequence[TrainingCase] = (),
    added: int = 0,
) -> dict[str, Any]:
    """Publish what is no worse than what is served, and keep the rest aside.

    Parameters
    ----------
    trained
        Those that were trained, from `served`.
    cases
        All labeled cases, as they were given to the training.
    gate, margin
        Whether the networks are compared, and the DSC that an organ may lose.
    overlap
        Of the windows, as the server predicts with.
    ensemble
        How probabilities become labels, as the server makes them.
    place
        The device, where others want it too.
    pseudo
        Pseudo labels of organs nobody has labeled: looked at where no case is held out.
    added
        How often the training was interrupted and went on with more labels.

    Returns
    -------
    dict
        For the statistics of the training: ``model_version`` served from now on,
        ``message`` in one line, ``gate`` with all that was decided on.
    """
    seen = Seen(store.root)
    training, held_out = split(cases, config.validation, seen)
    note = f"fine-tuned on {_learned(trained, len(training))} from {served.model_version}"
    if added:
        note += f", some of which came while it ran (interrupted {added} times)"
    compare = partial(
        compared,
        trained=trained,
        training=training,
        held_out=held_out,
        device=config.device,
        margin=margin,
        overlap=overlap,
        ensemble=ensemble,
        place=place,
        pseudo=pseudo,
    )
    while True:
        now = store.served()
        model_version = now.model_version
        if why := why_passed_over(store, served, now, trained):
            outcome = Outcome.passed_over(why, gate=gate)
        else:
            outcome = Outcome.of(*compare(now)) if gate else Outcome.unseen(trained)
        if not outcome.publish:
            break
        text = (
            note
            if model_version == served.model_version
            else f"{note}, compared with {model_version}"
        )
        better = {name: trained[name] for name in outcome.publish}
        try:
            model_version = _publish(store, now, better, f"{text}; {outcome.said}", seen, training)
        except ServedChangedError as changed:
            logger.warning("gate: %s", changed)
        else:
            break
    # After publishing: where the disk is full, what has passed is not lost with the rest.
    rest = {name: one for name, one in trained.items() if name not in outcome.publish}
    kept = _keep(store, rest, outcome.gate) if rest else {}
    message = outcome.message(model_version)
    if outcome.gate["refused"]:
        logger.warning("gate: %s", message)
    return {"gate": outcome.gate | kept, "model_version": model_version, "message": message}


def _learned(trained: Mapping[str, Checkpoint], now: int) -> str:
    """On how many volumes; one that was through before labels were added has fewer."""
    counts = {name: int(one.origin.get("cases", now)) for name, one in trained.items()}
    if len(set(counts.values())) == 1:
        return f"{next(iter(counts.values()))} labeled volumes"
    return f"labeled volumes ({', '.join(f'{name} {n}' for name, n in counts.items())})"


def why_passed_over(
    store: ModelStore, served: ServedSet, now: ServedSet, trained: Mapping[str, Checkpoint]
) -> str:
    """Why networks are not published however good they are; empty as a rule.

    What is served was changed by somebody while they were trained. A set that came since is
    one to compare with; but networks that come from a set which was taken back would bring it
    back, and one that somebody has left out of the set would be in it again.
    """
    if now.model_version == served.model_version:
        return ""
    if not comes_from(store.root, now.folder, served.folder):
        return (
            f"they were trained from {served.model_version}, in whose place somebody serves the "
            f"earlier {now.model_version} by now; train again"
        )
    gone = [name for name in trained if name not in now.checkpoints]
    if gone:
        return f"{', '.join(gone)} is no longer served, {now.model_version} is without; train again"
    return ""


def compared(
    served: ServedSet,
    *,
    trained: Mapping[str, Checkpoint],
    training: Sequence[TrainingCase],
    held_out: Sequence[TrainingCase],
    device: str,
    margin: float,
    overlap: float | None,
    ensemble: EnsembleSettings | None,
    place: SharedDevice,
    pseudo: Sequence[TrainingCase],
) -> tuple[Decision, int]:
    """Return the decision, and on how many cases it was made."""
    chosen = stratified(held_out, MOST_HELD_OUT) or stratified(training, MOST_TRAINED)
    logger.info("gate: comparing with the served networks on %d cases", len(chosen))
    measure = partial(
        measure_both,
        served=served.load(),
        trained=trained,
        device=device,
        overlap=overlap,
        ensemble=ensemble,
        shared_device=place,
    )
    measured = measure(chosen)
    guessed = measure(pseudo) if pseudo and not held_out else None
    decision = decide(
        measured.single,
        measured.sets,
        margin=margin,
        basis="held out" if held_out else "trained on",
        pseudo=guessed.single if guessed else None,
        unfit={**(guessed.unfit if guessed else {}), **measured.unfit},
        chosen=len(chosen),
        warnings=measured.warnings,
    )
    return decision, measured.cases


def _publish(
    store: ModelStore,
    served: ServedSet,
    networks: Mapping[str, Checkpoint],
    note: str,
    seen: Seen,
    training: Sequence[TrainingCase],
) -> str:
    """Publish, if `served` is served still; the new model_version.

    Raises
    ------
    ServedChangedError
        It is not.
    """
    if (
        store.served().model_version != served.model_version
    ):  # looked at again where it is published
        raise ServedChangedError(store.root, "other networks are served by now; comparing again")
    # First: what a published network has seen must never be held out from it.
    seen.add(patient_of(case) for case in training)
    model_version = store.publish(networks, note=note, expected=served.model_version)
    logger.info("networks %s are served; all scores are stale", model_version)
    return model_version


def _keep(
    store: ModelStore, networks: Mapping[str, Checkpoint], gate: Mapping[str, Any]
) -> dict[str, str]:
    """Where networks are kept aside, for the statistics; nothing where they cannot be."""
    try:
        return {"kept_aside": f"{KEPT_ASIDE}/{keep_aside(store.root, networks, gate).name}"}
    except OSError as error:
        logger.error("%s are not kept aside, it cannot be written: %s", ", ".join(networks), error)
        return {}
