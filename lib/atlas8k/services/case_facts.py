"""A case in somebody's hands as it is shown: its organs, places, remarks, predicted quality."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atlas8k.attention.quality_model import in_words
from atlas8k.core.findings import Finding
from atlas8k.core.remarks import Remark
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.core.volume import read_label
from atlas8k.core.voxels import counts
from atlas8k.labels.checks import label_findings
from atlas8k.labels.plausibility import find_odd_volumes
from atlas8k.services.context import Context
from atlas8k.services.studies.versions import Version
from atlas8k.store import Holder, Lease, Seen

PREDICTED = "predicted"
NOT_KNOWN = "unknown"
"""In place of the predicted Dice of an organ of which nothing was learnt."""
SHOWN_REGIONS = 10


@dataclass(frozen=True)
class OrganLine:
    """An organ of a draft label.

    ``ml`` is its volume there, 0 where it has no voxel; ``asked`` what is odd about that;
    ``quality`` the predicted Dice of a pseudo label, in words.
    """

    name: str
    ml: float
    source: str
    asked: str | None
    quality: str = ""


@dataclass(frozen=True)
class Case:
    """A case in somebody's hands.

    Attributes
    ----------
    lease
        Number of the lease; actions name it.
    seconds_left
        Until the lease runs out.
    rank, ranked
        Place in the priority list and how long that is; ``None`` without a score.
    attention_ml
        Attention size.
    regions
        The largest first, as :class:`~atlas8k.attention.explain.RegionNote`.
    organs
        Of the draft label; empty where there is none.
    study
        StudyInstanceUID, where the studies are a DICOM archive.
    note
        What a reviewer said when returning it.
    remarks
        What was found in the CT's file.
    familiar
        Whether the CT is like the training CTs, as kept with its score; else empty.
    findings
        What anatomical rules have against the draft label: ``organ``, ``rule``, ``text``.
    quality_basis
        What the predicted Dice of its organs rests on; empty where none is known.
    """

    image: str
    lease: int
    holder: str
    seconds_left: float
    rank: int | None
    ranked: int
    attention_ml: float | None
    plane: str
    slices: int
    regions: tuple[Mapping[str, Any], ...]
    organs: tuple[OrganLine, ...]
    study: str | None
    note: str
    remarks: tuple[Remark, ...] = ()
    familiar: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Mapping[str, str], ...] = ()
    quality_basis: str = ""


def case_of(
    context: Context, held: Lease, model_version: str | None, gold: Seen | None = None
) -> Case:
    """Return a case as its page and the list of cases show it.

    Parameters
    ----------
    held
        The lease of who asks, or one of nobody.
    model_version
        The networks that the priority list is of; None: none.
    gold
        How who asks sees a gold case of which the current submission is hidden from them.
    """
    volume, ledger = held.volume, context.ledger
    noted = context.calibrations.explanation(volume, model_version) or {}
    if _from_scratch(context, volume):
        noted = {}
    start = start_of(context, held, gold)
    notes = [one.note for one in ledger.offers() if one.volume == volume and gold is None]
    return Case(
        image=volume,
        lease=held.id,
        holder=held.holder,
        seconds_left=max(0.0, held.expires_at - time.time()),
        rank=ledger.rank(volume, model_version) if model_version else None,
        ranked=ledger.progress(model_version).scored if model_version else 0,
        attention_ml=noted.get("attention_ml"),
        plane=str(noted.get("plane", "")),
        slices=int(noted.get("slices", 0)),
        regions=tuple(noted.get("regions", ())[:SHOWN_REGIONS]),
        organs=_organs(start, noted.get("quality") or {}),
        quality_basis=str(noted.get("quality_basis", "")),
        study=None if context.archive is None else context.archive.study(volume),
        note=notes[0] if notes else "",
        remarks=context.label_service.folder.now().remarks(volume),
        familiar=noted.get("familiar") or {},
        findings=_findings(context, volume) if gold is None else _found_in(start),
    )


def _from_scratch(context: Context, volume: str) -> bool:
    """Return whether a volume is read a second time, without anything to begin with."""
    return context.label_service.from_scratch and volume in context.ledger.read_twice()


def _findings(context: Context, volume: str) -> tuple[Mapping[str, str], ...]:
    """Return what is found in a draft label; a second reader began from the pseudo label."""
    ledger = context.ledger
    twice = volume in ledger.read_twice()
    if _from_scratch(context, volume):
        return ()
    found = ledger.findings(volume).get("pseudo") if twice else ledger.current_findings(volume)
    return tuple(one._asdict() for one in found or ())


def _found_in(version: Version | None) -> tuple[Mapping[str, str], ...]:
    found = () if version is None else _findings_of(version.path, version.sha256)
    return tuple(one._asdict() for one in found)


@functools.lru_cache(maxsize=64)
def _findings_of(path: Path, sha256: str) -> list[Finding]:
    label = read_label(path)
    return label_findings(label.array, label.grid)


def _organs(
    version: Version | None, quality: Mapping[str, Mapping[str, Any]]
) -> tuple[OrganLine, ...]:
    if version is None:
        return ()
    ml, asked = measured(version.path, version.sha256)
    said = version.info.get("organs") or {}
    lines = []
    for name in ORGAN_NAMES:
        source = _source(said.get(name, {}))
        # Of what the networks said; what somebody drew is not for them to judge.
        words = ""
        if source == PREDICTED and ml[name]:
            words = in_words(quality.get(name)) or NOT_KNOWN
        lines.append(OrganLine(name, ml[name], source, asked.get(name), words))
    return tuple(lines)


def start_of(context: Context, held: Lease, gold: Seen | None = None) -> Version | None:
    """Return the label that a case began with under a lease; None where it has none.

    `gold` is as in :func:`case_of`.
    """
    if gold is not None:
        return context.label_service.seen_label(held.volume, gold)
    holder = Holder(held.holder, held.anonymous)
    return context.label_service.start_label(held.volume, holder, held.id)


@functools.lru_cache(maxsize=64)
def measured(path: Path, sha256: str) -> tuple[dict[str, float], dict[str, str]]:
    """Return organ volumes of a label file of that checksum, ml, and what is odd about some."""
    label = read_label(path)
    found = counts(label.array)
    voxels = {name: int(found[i]) for name, i in ORGAN_IDS.items()}
    ml = {name: n * label.grid.voxel_ml for name, n in voxels.items()}
    return ml, find_odd_volumes(label.array, label.grid, voxels)


def _source(said: Mapping[str, Any]) -> str:
    source, state = str(said.get("source", "pseudo")), str(said.get("state", "unknown"))
    if source == "pseudo":
        return PREDICTED
    where = f"public ({said['dataset']})" if said.get("dataset") else source
    if state == "not_assessed":
        return f"{where}, not assessed"
    return f"{where}, absent" if state == "absent" else where
