"""What a studies folder and its ledger say about the quality of labels: files by what they tell."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from atlas8k.reports.quality import Effort
from atlas8k.services.labels.drafts import PSEUDO, signature
from atlas8k.services.labels.submissions import IMPORTED_BY
from atlas8k.services.studies.folder import ORIGINAL

if TYPE_CHECKING:
    from atlas8k.core.volume import Volume
    from atlas8k.reports.agreement import Reading
    from atlas8k.services.labels.reviews import Revision
    from atlas8k.services.labels.service import LabelService
    from atlas8k.services.prediction.cache import PredictionCache
    from atlas8k.store import Round

Labels = dict[str, dict[str, Path]]
"""Name to case to label file."""
SHORT = 8
"""Characters of a model signature in a table."""


@dataclass
class Sources:
    """Labels of a studies folder.

    Attributes
    ----------
    states
        Start labels of volumes with a truth: before, after each round, now.
    given, submitted
        By round, the volumes submitted in it: label given out, label submitted.
    in_force
        Volume to the label of its current submission.
    networks
        By model signature, the label that its networks made of a volume.
    raters
        By annotator, the last label drawn of a volume, second readings included.
    efforts
        What the ledger says of each round.
    notes
        What could not be had.
    """

    states: Labels = field(default_factory=dict)
    given: Labels = field(default_factory=dict)
    submitted: Labels = field(default_factory=dict)
    in_force: dict[str, Path] = field(default_factory=dict)
    networks: Labels = field(default_factory=dict)
    raters: Labels = field(default_factory=dict)
    efforts: list[Effort] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_sources(
    label_service: LabelService, volumes: Iterable[str], truths: Collection[str] = ()
) -> Sources:
    """Look up every label that tells something, oldest round first.

    Parameters
    ----------
    volumes
        To look at; those that nobody submitted and that are not in `truths` say nothing.
    truths
        Volumes with a truth: states of their draft label are looked up, too.
    """
    found = Sources()
    rounds = [one for one in label_service.ledger.rounds() if one.reviewed]
    efforts = {one.number: Effort(f"round {one.number}", _short(one.signature)) for one in rounds}
    found.efforts = list(efforts.values())
    for volume in volumes:
        history = label_service.reviews.history(volume)
        if volume in truths:
            _states(label_service, volume, rounds, found)
        if history or volume in truths:
            _networks(label_service, volume, found)
        for one in history:
            _count(one, efforts)
        if history:
            _submissions(label_service, volume, history, found)
    order = [_short(one.signature) for one in label_service.ledger.rounds()]
    order += [name for name in found.networks if name not in order]
    found.networks = {n: found.networks[n] for n in order if n in found.networks}
    return found


def _short(signature: str | None) -> str:
    return (signature or "unknown")[:SHORT]


def _states(label_service: LabelService, volume: str, rounds: list[Round], found: Sources) -> None:
    """Look up the draft label at the beginning, at the end of each round, and now."""
    moments = [("before", rounds[0].opened_at)] if rounds else []
    moments += [(f"after round {one.number}", one.closed_at) for one in rounds if one.closed_at]
    for name, moment in moments:
        version = label_service.versions.at(volume, ORIGINAL, moment)
        if version is not None:
            found.states.setdefault(name, {})[volume] = version.path
    current = label_service.versions.current(volume, ORIGINAL)
    if current is not None:
        found.states.setdefault("now", {})[volume] = current.path


def _networks(label_service: LabelService, volume: str, found: Sources) -> None:
    current = label_service.versions.current(volume, PSEUDO)
    versions = ([current] if current is not None else []) + label_service.versions.kept(
        volume, PSEUDO
    )
    for version in versions:
        name = signature(version.info)
        if name is not None:
            found.networks.setdefault(_short(name), {}).setdefault(volume, version.path)


def _count(revision: Revision, efforts: Mapping[int, Effort]) -> None:
    one = revision.submission
    effort = efforts.get(one.round)
    if effort is None or one.restored is not None:
        return
    effort.volumes.add(one.volume)
    effort.annotators.add(one.holder)
    effort.submissions += 1
    if one.minutes is not None:
        effort.minutes.append(one.minutes)
    for organ, change in revision.organs.items():
        effort.add(organ, change.state, change.dsc)


def _submissions(
    label_service: LabelService, volume: str, history: list[Revision], found: Sources
) -> None:
    for number in sorted({one.submission.round for one in history}):
        of_round = [one for one in history if one.submission.round == number]
        first, last, name = _first(of_round), _last(of_round), f"round {number}"
        if first is None or last is None:
            continue
        start = first.submission.start_sha256
        version = (
            label_service.versions.find(volume, ORIGINAL, start) if start is not None else None
        )
        if version is None or last.file is None:
            what = "label given out" if version is None else "label submitted"
            found.notes.append(f"{volume}, {name}: the {what} is not there any more")
            continue
        found.given.setdefault(name, {})[volume] = version.path
        found.submitted.setdefault(name, {})[volume] = last.file
    for one in history:
        if one.in_force and one.file is not None:
            found.in_force[volume] = one.file
        if one.submission.restored is None and one.file is not None:
            holder = one.submission.holder
            rater = "found in labels/final" if holder == IMPORTED_BY.key else holder
            found.raters.setdefault(rater, {})[volume] = one.file


def _first(of_round: list[Revision]) -> Revision | None:
    """Return the first label drawn from the draft label in a round."""
    for one in of_round:
        if one.submission.restored is None and one.submission.purpose != "double_read":
            return one
    return None


def _last(of_round: list[Revision]) -> Revision | None:
    """Return what a round ended with: the current one, else the last that nobody disputes."""
    undisputed = [
        one
        for one in of_round
        if not one.submission.conflict and one.submission.purpose != "double_read"
    ]
    return next((one for one in reversed(of_round) if one.in_force), None) or next(
        reversed(undisputed), None
    )


def readings(
    label_service: LabelService,
    found: Sources,
    volumes: Iterable[str],
    more: Mapping[str, Mapping[str, Path]],
    orientation: str | None = None,
) -> tuple[list[str], Iterator[tuple[str, dict[str, Reading]]]]:
    """Return raters in order, and the label of each of a volume, read when it is asked for.

    Networks come from what the server keeps of its predictions, their ensemble's label from
    there or from ``labels/pseudo``.

    Parameters
    ----------
    more
        Further raters: name to case to label map.
    orientation
        How the axes of files run that do not say it, such as ``RAS``.
    """
    from atlas8k.services.prediction.cache import PredictionCache

    volumes = list(volumes)
    cache = PredictionCache(label_service.ledger.path.parent / "cache", 0)
    members = dict.fromkeys(name for v in volumes for name in _kept(label_service, cache, v))
    raters = [*members, "ensemble", *found.raters, *more]

    def each() -> Iterator[tuple[str, dict[str, Reading]]]:
        for volume in volumes:
            of_case: dict[str, Reading] = dict(_kept(label_service, cache, volume))
            pseudo = label_service.versions.current(volume, PSEUDO)
            if pseudo is not None:
                of_case["ensemble"] = _file(pseudo.path, orientation)
            for name, labels in (*found.raters.items(), *more.items()):
                if volume in labels:
                    of_case[name] = _file(labels[volume], orientation)
            yield volume, of_case

    return raters, each()


def _file(path: Path, orientation: str | None) -> Reading:
    from atlas8k.reports.folders import read_case

    return lambda: read_case(path, orientation)


def _kept(label_service: LabelService, cache: PredictionCache, volume: str) -> dict[str, Reading]:
    """Return each network's own label of a volume, from cached predictions of the latest ones."""
    from atlas8k.core.errors import Atlas8kError
    from atlas8k.core.volume import Volume, read_grid
    from atlas8k.services.prediction.answers import Answers

    pseudo = label_service.versions.current(volume, PSEUDO)
    name = signature(pseudo.info) if pseudo is not None else None
    data = cache.latest(volume, name, "answers") if name is not None else None
    if not data:
        return {}
    try:
        answers = Answers.unpacked(data, volume)
        grid = read_grid(label_service.folder.path / label_service.folder.known_image(volume).path)
    except Atlas8kError:
        return {}  # damaged, or the CT is gone: not a rater of this volume

    def reading(network: str) -> Reading:
        def read() -> Volume:
            return Volume(answers.label_on(grid, network), grid)

        return read

    return {network: reading(network) for network in answers.names}
