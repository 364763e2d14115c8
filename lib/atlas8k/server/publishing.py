"""What becomes of trained networks: measured against the served ones, published or kept aside.

::

    model/kept-aside/<UTC time>/{<network>.safetensors, gate.json}

Those that are kept aside are never served by themselves; the last few stay, to be looked at.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from atlas8k.errors import CheckpointError
from atlas8k.models.checkpoint import Checkpoint, save_checkpoint
from atlas8k.models.ensemble import EnsembleSettings
from atlas8k.models.sets import SUFFIX, ServedSet
from atlas8k.models.store import ModelStore
from atlas8k.server.files import write_json
from atlas8k.server.train_cases import Seen
from atlas8k.training.config import TrainingConfig
from atlas8k.training.data import TrainingCase
from atlas8k.training.gate import TOGETHER, Decision, decide
from atlas8k.training.measuring import measure_both
from atlas8k.training.sides import by_hash, patient_of, split

logger = logging.getLogger(__name__)

KEPT_ASIDE = "kept-aside"
REASON = "gate.json"
KEPT = 3
MOST_HELD_OUT = 50
"""Held-out cases that are measured: a paired test gains little from more, and each costs two
predictions."""
MOST_TRAINED = 8
"""Cases that are measured where none is held out."""

OFF = "the gate is off: networks are published without being compared with the served ones"


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
    between: Callable[[], object],
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
    between
        Called before every case that is measured.
    pseudo
        Pseudo labels of organs nobody has labeled: looked at where no case is held out.
    added
        How often the training was interrupted and went on with more labels.

    Returns
    -------
    dict
        For the statistics of the training: ``model_signature`` served from now on,
        ``message`` in one line, ``gate`` with all that was decided on.
    """
    seen = Seen(store.root)
    training, _ = split(cases, config.validation, seen)
    note = f"fine-tuned on {len(training)} labeled volumes from {served.signature}"
    if added:
        note += f", some of which came while it ran (interrupted {added} times)"
    if not gate:
        logger.warning(OFF)
        signature = _publish(store, trained, f"{note}; {OFF}", seen, training)
        return {
            "model_signature": signature,
            "message": f"networks {signature} are served; {OFF}",
            "gate": {"on": False, "publish": list(trained), "refused": {}, "warnings": [OFF]},
        }
    decision, count = compared(
        served, trained, cases, config, seen, margin, overlap, ensemble, between, pseudo
    )
    for warning in decision.warnings:
        logger.warning("gate: %s", warning)
    stats: dict[str, Any] = {"gate": {"on": True, "cases": count, **decision.as_json()}}
    aside = {name: one for name, one in trained.items() if name not in decision.publish}
    if aside:
        folder = keep_aside(store.root, aside, stats["gate"])
        stats["gate"]["kept_aside"] = f"{KEPT_ASIDE}/{folder.name}"
    signature = served.signature
    if decision.publish:
        better = {name: trained[name] for name in decision.publish}
        signature = _publish(store, better, f"{note}; {_said(decision, count)}", seen, training)
    stats["model_signature"] = signature
    stats["message"] = _message(decision, signature, count)
    if decision.refused:
        logger.warning("gate: %s", stats["message"])
    return stats


def compared(
    served: ServedSet,
    trained: Mapping[str, Checkpoint],
    cases: Sequence[TrainingCase],
    config: TrainingConfig,
    seen: Seen,
    margin: float,
    overlap: float | None,
    ensemble: EnsembleSettings | None = None,
    between: Callable[[], object] = lambda: None,
    pseudo: Sequence[TrainingCase] = (),
) -> tuple[Decision, int]:
    """The decision, and on how many cases it was made."""
    training, held_out = split(cases, config.validation, seen)
    chosen = by_hash(held_out)[:MOST_HELD_OUT] or by_hash(training)[:MOST_TRAINED]
    logger.info("gate: comparing with the served networks on %d cases", len(chosen))
    measure = partial(
        measure_both,
        served=served.load(),
        trained=trained,
        device=config.device,
        overlap=overlap,
        ensemble=ensemble,
        between=between,
    )
    measured = measure(chosen)
    decision = decide(
        measured.single,
        measured.sets,
        margin=margin,
        basis="held out" if held_out else "trained on",
        pseudo=measure(pseudo).single if pseudo and not held_out else None,
    )
    return decision, measured.cases


def _publish(
    store: ModelStore,
    networks: Mapping[str, Checkpoint],
    note: str,
    seen: Seen,
    training: Sequence[TrainingCase],
) -> str:
    # First: what a published network has seen must never be held out from it.
    seen.add(patient_of(case) for case in training)
    signature = store.publish(networks, note=note)
    logger.info("networks %s are served; all scores are stale", signature)
    return signature


def keep_aside(root: Path, networks: Mapping[str, Checkpoint], why: Mapping[str, Any]) -> Path:
    """Store networks that are not to be served, with the reason; their folder."""
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


def _said(decision: Decision, count: int) -> str:
    return f"no worse on {count} cases ({decision.basis}), margin {decision.margin:g} DSC"


def _message(decision: Decision, signature: str, count: int) -> str:
    if TOGETHER in decision.refused or not decision.publish:
        text = f"not published, {signature} is served still: {decision.reason}"
    elif decision.refused:
        text = (
            f"{', '.join(decision.publish)} published, served as {signature}; not "
            f"published: {decision.reason}"
        )
    else:
        text = f"published, served as {signature}: {_said(decision, count)}"
    return "; ".join([text, *decision.warnings])
