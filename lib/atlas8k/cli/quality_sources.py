"""Look up the label files of a studies folder that show the quality of labels, by kind."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from atlas8k.reports.quality import Effort
from atlas8k.services.labels.drafts import PSEUDO, model_version
from atlas8k.services.labels.submissions import IMPORTED_BY
from atlas8k.services.studies.folder import ORIGINAL
from atlas8k.store import BLIND

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
"""Characters of a model version in a table."""


@dataclass
class Sources:
    """Labels of a studies folder.

    Attributes
    ----------
    states
        Draft labels of volumes with a truth: before, after each round, now.
    given, submitted
        By round and submitted volume: the label given out, the label submitted.
    current
        Volume to the label of its current submission.
    networks
        By model version and volume, the label that its networks made.
    raters
        By annotator, the last label drawn of a volume, second readings included.
    efforts
        The ledger's record of each round.
    notes
        Labels that could not be found.
    """

    states: Labels = field(default_factory=dict)
    given: Labels = field(default_factory=dict)
    submitted: Labels = field(default_factory=dict)
    current: dict[str, Path] = field(default_factory=dict)
    networks: Labels = field(default_factory=dict)
    raters: Labels = field(default_factory=dict)
    efforts: list[Effort] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_sources(
    label_service: LabelService, volumes: Iterable[str], truths: Collection[str] = ()
) -> Sources:
    """Look up every label that can be measured, oldest round first.

    Parameters
    ----------
    volumes
        Volumes to look at; those that nobody submitted and that are not in `truths` count not.
    truths
        Volumes with a truth: states of their draft label are looked up, too.
    """
    sources = Sources()
    rounds = [round_ for round_ in label_service.ledger.rounds() if round_.reviewed]
    efforts = {
        round_.number: Effort(f"round {round_.number}", _short(round_.model_version))
        for round_ in rounds
    }
    sources.efforts = list(efforts.values())
    for volume in volumes:
        history = label_service.reviews.history(volume)
        if volume in truths:
            _states(label_service, volume, rounds, sources)
        if history or volume in truths:
            _networks(label_service, volume, sources)
        for revision in history:
            _count(revision, efforts)
        if history:
            _submissions(label_service, volume, history, sources)
    order = [_short(round_.model_version) for round_ in label_service.ledger.rounds()]
    order += [name for name in sources.networks if name not in order]
    sources.networks = {n: sources.networks[n] for n in order if n in sources.networks}
    return sources


def _short(model_version: str | None) -> str:
    return (model_version or "unknown")[:SHORT]


def _states(
    label_service: LabelService, volume: str, rounds: list[Round], sources: Sources
) -> None:
    """Look up the draft label at the beginning, at the end of each round, and now."""
    times = [("before", rounds[0].opened_at)] if rounds else []
    times += [
        (f"after round {round_.number}", round_.closed_at) for round_ in rounds if round_.closed_at
    ]
    for name, time in times:
        version = label_service.versions.at(volume, ORIGINAL, time)
        if version is not None:
            sources.states.setdefault(name, {})[volume] = version.path
    current = label_service.versions.current(volume, ORIGINAL)
    if current is not None:
        sources.states.setdefault("now", {})[volume] = current.path


def _networks(label_service: LabelService, volume: str, sources: Sources) -> None:
    current = label_service.versions.current(volume, PSEUDO)
    versions = ([current] if current is not None else []) + label_service.versions.kept(
        volume, PSEUDO
    )
    for version in versions:
        name = model_version(version.info)
        if name is not None:
            sources.networks.setdefault(_short(name), {}).setdefault(volume, version.path)


def _count(revision: Revision, efforts: Mapping[int, Effort]) -> None:
    submission = revision.submission
    effort = efforts.get(submission.round)
    if effort is None or submission.restored is not None:
        return
    effort.volumes.add(submission.volume)
    effort.annotators.add(submission.holder)
    effort.submissions += 1
    if submission.minutes is not None:
        effort.minutes.append(submission.minutes)
    for organ, change in revision.organs.items():
        effort.add(organ, change.state, change.dsc)


def _submissions(
    label_service: LabelService, volume: str, history: list[Revision], sources: Sources
) -> None:
    for number in sorted({revision.submission.round for revision in history}):
        of_round = [revision for revision in history if revision.submission.round == number]
        first, last, name = _first(of_round), _last(of_round), f"round {number}"
        if first is None or last is None:
            continue
        start = first.submission.start_sha256
        version = label_service.versions.find(volume, start) if start is not None else None
        if version is None or last.file is None:
            what = "label given out" if version is None else "label submitted"
            sources.notes.append(f"{volume}, {name}: the {what} is not there any more")
            continue
        sources.given.setdefault(name, {})[volume] = version.path
        sources.submitted.setdefault(name, {})[volume] = last.file
    for revision in history:
        if revision.is_current and revision.file is not None:
            sources.current[volume] = revision.file
        if revision.submission.restored is None and revision.file is not None:
            holder = revision.submission.holder
            rater = "found in labels/final" if holder == IMPORTED_BY.key else holder
            sources.raters.setdefault(rater, {})[volume] = revision.file


def _first(of_round: list[Revision]) -> Revision | None:
    """Return the first label drawn from the draft label in a round."""
    for revision in of_round:
        if revision.submission.restored is None and revision.submission.purpose not in BLIND:
            return revision
    return None


def _last(of_round: list[Revision]) -> Revision | None:
    """Return a round's last revision: the current one, else the last undisputed one."""
    undisputed = [
        revision
        for revision in of_round
        if not revision.submission.conflict and revision.submission.purpose not in BLIND
    ]
    return next((revision for revision in reversed(of_round) if revision.is_current), None) or next(
        reversed(undisputed), None
    )


def readings(
    label_service: LabelService,
    sources: Sources,
    volumes: Iterable[str],
    more: Mapping[str, Mapping[str, Path]],
    orientation: str | None = None,
) -> tuple[list[str], Iterator[tuple[str, dict[str, Reading]]]]:
    """Return the raters in order, and by volume the functions that read each one's label.

    Networks' labels come from the server's cached predictions, their ensemble's label from
    there or from ``labels/pseudo``.

    Parameters
    ----------
    more
        Further raters: name to case to label map.
    orientation
        Direction of the axes of files that lack it, such as ``RAS``.
    """
    from atlas8k.services.prediction.cache import PredictionCache

    volumes = list(volumes)
    cache = PredictionCache(label_service.ledger.path.parent / "cache", 0)
    members = dict.fromkeys(
        name for v in volumes for name in _network_labels(label_service, cache, v)
    )
    raters = [*members, "ensemble", *sources.raters, *more]

    def each() -> Iterator[tuple[str, dict[str, Reading]]]:
        for volume in volumes:
            of_case: dict[str, Reading] = dict(_network_labels(label_service, cache, volume))
            pseudo = label_service.versions.current(volume, PSEUDO)
            if pseudo is not None:
                of_case["ensemble"] = _file(pseudo.path, orientation)
            for name, labels in (*sources.raters.items(), *more.items()):
                if volume in labels:
                    of_case[name] = _file(labels[volume], orientation)
            yield volume, of_case

    return raters, each()


def _file(path: Path, orientation: str | None) -> Reading:
    from atlas8k.reports.folders import read_case

    return lambda: read_case(path, orientation)


def _network_labels(
    label_service: LabelService, cache: PredictionCache, volume: str
) -> dict[str, Reading]:
    """Return each network's own label of a volume, from cached predictions."""
    from atlas8k.core.errors import Atlas8kError
    from atlas8k.core.volume import Volume, read_grid
    from atlas8k.services.prediction.answers import Answers

    pseudo = label_service.versions.current(volume, PSEUDO)
    name = model_version(pseudo.info) if pseudo is not None else None
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
