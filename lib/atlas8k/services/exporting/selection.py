"""Choose what may be exported by a stated bar; what is left out, with the reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.labels.licences import Purpose, forbids_help, forbids_label
from atlas8k.services.exporting.splits import EXCLUDED
from atlas8k.services.studies.folder import StudiesFolder
from atlas8k.store import LabelVersion, Ledger, OrganSource, exports, phases

Require = Literal["confirmed", "reviewed", "any"]
"""``confirmed``: organs that a person or a dataset vouches for; ``reviewed``: also the rest of a
label that somebody has submitted; ``any``: predictions that nobody has seen, too."""

VOUCHED = ("present", "absent", "confirmed", "revised")
_PSEUDO = OrganSource("pseudo", "unknown")
_PORTABLE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_NUMBER_THEM = "not portable; atlas8k export --rename numbers volumes"
_STATUS = {
    "vanished": "its CT is gone",
    "excluded": "excluded from the campaign",
    "conflict": "two submissions contradict each other, and no reviewer has decided",
}


class LeftOut(NamedTuple):
    """A volume, or one organ of it, that is not exported; ``organ`` is empty for a volume."""

    volume: str
    organ: str
    reason: str


@dataclass(frozen=True)
class Wanted:
    """A volume to export, as far as the store knows it.

    Attributes
    ----------
    volume
        Its name in the studies.
    name
        Its name in the export.
    record
        What the manifest says of it, JSON-ready; ``organs`` are those that pass the bar.
    label, unknown
        The fused label's file; that of voxels that could be any organ.
    made_at
        When the oldest file was written that the label is made of, UTC seconds.
    left_out
        Organs that do not pass.
    expected
        The manifest's record that is to come out again; None: anything may.
    """

    volume: str
    name: str
    record: dict[str, Any]
    label: LabelVersion
    unknown: LabelVersion | None
    made_at: float
    left_out: tuple[LeftOut, ...] = ()
    expected: dict[str, Any] | None = None


def why_not(source: OrganSource, submitted: bool, require: Require) -> str:
    """Return why an organ does not pass the bar; empty where it does.

    Parameters
    ----------
    submitted
        Whether somebody has submitted a label of its volume.
    """
    if require == "any":
        return ""
    if source.disputed:
        return "a submission disputes the public label, and no reviewer has decided"
    if source.source != "pseudo" and source.state in VOUCHED:
        return ""
    if source.source != "pseudo":
        return f"{source.state.replace('_', ' ')}: drawn, and nobody vouches for it"
    if require == "confirmed":
        return "predicted, and not assessed by anybody"
    return "" if submitted else "predicted, and nobody has looked at the volume"


def name_fault(name: str, twins: int = 1) -> str:
    """Return why a name is not one that every file system and archive takes; empty: it is.

    Parameters
    ----------
    twins
        How many names are the same but for capitals, itself included.
    """
    if not _PORTABLE.fullmatch(name) or name.endswith("."):
        return f"its name holds more than A-Z a-z 0-9 . _ -: {_NUMBER_THEM}"
    if _DEVICES.fullmatch(name):
        return f"its name is a device's on Windows: {_NUMBER_THEM}"
    if twins > 1:
        return f"another volume's name differs by capitals alone: {_NUMBER_THEM}"
    return ""


def select(
    folder: StudiesFolder,
    require: Require,
    organs: Sequence[str] = ORGAN_NAMES,
    rename: str = "",
    purpose: Purpose = "share",
    maps: str | None = None,
    parts: Mapping[str, str] | None = None,
    uncompared: Collection[str] = (),
) -> Iterator[Wanted | LeftOut]:
    """Yield every volume of a campaign: to be exported, or left out and why.

    Parameters
    ----------
    organs
        Which ones to export.
    rename
        Where given, volumes are named so with their number in the store, such as
        ``BDMAP_00000001``: the same as volumes are added.
    purpose, maps
        A public label is left out where its licence forbids it, see
        :func:`~atlas8k.labels.licences.forbids_label`, and one that a tool helped with where the
        licence of its weights does; file of the user's own datasets.
    parts
        Set of each volume, see :mod:`~atlas8k.services.exporting.splits`; None: no sets.
    uncompared
        Volumes of which near-duplicates are not known; the manifest of a split dataset says so.
    """
    with folder.ledger.read() as tx:
        known, numbers = exports.names(tx), exports.annotators(tx)
        found = phases.of_volumes(tx)
    twins = Counter(name.lower() for name in known)
    for name in known:
        with folder.ledger.read() as tx:
            state = exports.volume(tx, name)
        shown = f"{rename}{state.number:08d}" if rename else name
        fault = name_fault(shown, 1 if rename else twins[name.lower()])
        if parts is not None and parts.get(name) == EXCLUDED:
            fault = fault or "belongs with a volume of an external test set"
        if reason := fault or _STATUS.get(state.status, ""):
            yield LeftOut(shown, "", reason)
        else:
            licences = {
                one.dataset: forbids_label(one.dataset, purpose, maps)
                for one in state.organs.values()
                if one.source == "public"
            }
            made = _wanted(name, shown, state, numbers, require, organs, licences, purpose)
            if isinstance(made, Wanted):
                if name in found:
                    made.record["phase"] = found[name].phase
                    if found[name].said:
                        made.record["phase_said"] = True
                if parts is not None:
                    made.record["split"] = parts[name]
                    made.record["compared"] = name not in uncompared
            yield made
    if not rename:
        for name in sorted(set(folder.now().ids()) - set(known)):
            yield LeftOut(name, "", "nobody has scored or labeled it")


def still_going_on(ledger: Ledger) -> str:
    """Say what of a campaign is not done, whose labels are exported as they are now; else empty."""
    states = ledger.states()
    parts = {
        "not submitted": states["open"] + states["leased"],
        "in conflict": states["conflict"],
        "with a question for a reviewer": states["review"],
    }
    found = [f"{number} {what}" for what, number in parts.items() if number]
    if not found:
        return ""
    return f"the campaign is not finished ({', '.join(found)}): labels are as they are now"


def _wanted(
    volume: str,
    name: str,
    state: exports.Exported,
    annotators: dict[str, int],
    require: Require,
    organs: Sequence[str],
    licences: Mapping[str | None, str],
    purpose: Purpose,
) -> Wanted | LeftOut:
    if state.label is None:
        return LeftOut(name, "", "has no label")
    model = state.label.info.get("model_version")
    chosen: dict[str, dict[str, Any]] = {}
    out = []
    rules: dict[str, list[str]] = {}
    for finding in state.findings or ():
        rules.setdefault(finding.organ, []).append(finding.rule)
    for organ in organs:
        source = state.organs.get(organ, _PSEUDO)
        reason = why_not(source, state.current is not None, require)
        if source.source == "public":
            reason = reason or licences[source.dataset]
        helped = state.helped.get(source.submission or 0, {}).get(organ, [])
        for one in helped:
            reason = reason or forbids_help(one.tool, one.licence, purpose)
        if reason:
            out.append(LeftOut(name, organ, reason))
            continue
        read = None if source.submission is None else state.readings[source.submission]
        chosen[organ] = _without_none(
            source=source.source,
            state=source.state,
            dataset=source.dataset,
            annotator=read and annotators.get(read.holder),
            round=read and read.round,
            model=read.model_version if read else model if source.source == "pseudo" else None,
            predicted_dice=state.dice.get(organ),
            checks=sorted(set(rules.get(organ, ()))) if state.findings is not None else None,
            disputed=source.disputed or None,
            tools=[asdict(one) for one in helped] or None,
        )
    if not chosen:
        reasons = Counter(one.reason for one in out)
        return LeftOut(name, "", f"no organ passes: {reasons.most_common(1)[0][0]}")
    kinds = {one["source"] for one in chosen.values()}
    ages = [at for tag, at in state.parts.items() if tag in kinds]
    if "revised" in kinds and state.current is not None:
        ages.append(state.current.submitted_at)
    record = _without_none(
        name=name,
        dataset=state.source or None,
        questions=list(state.questions) or None,
        model=model,
        fused_sha256=state.label.sha256,
        open_sha256=state.unknown and state.unknown.sha256,
        organs=chosen,
    )
    made_at = min(ages, default=state.label.written_at)
    return Wanted(volume, name, record, state.label, state.unknown, made_at, tuple(out))


def _without_none(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}
