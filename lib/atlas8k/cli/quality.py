"""``atlas8k quality``: measure label and annotator quality, as in the papers' tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atlas8k.cli.open_studies import label_service_of
from atlas8k.cli.options import Commands, LedgerFile, Orientation, Tolerance, named
from atlas8k.cli.terminal_tables import write_page

if TYPE_CHECKING:
    from atlas8k.cli.quality_sources import Labels, Sources
    from atlas8k.reports.results import Results
    from atlas8k.reports.tables import Table
    from atlas8k.services.labels.service import LabelService

quality = Commands(
    help="Label quality over rounds, training sets against each other, agreement of raters."
)

Out = Annotated[Path, typer.Option(help="Folder for the page and the tables.")]
NOTES_EACH = 5
"""Most notes of one kind that are printed one by one."""
Metric = Annotated[str, typer.Option(help="dsc or nsd.")]

DRAWN_FROM = (
    "Against submissions: they were drawn from the labels that are measured here, so what nobody "
    "corrected counts as right; --truth FOLDER gives labels that were drawn apart"
)
TRAINED_ON = (
    "Networks: volumes submitted before a network was trained may be among those it has learnt "
    "from; only volumes kept apart show what another round of training brings"
)


def gathered(notes: Sequence[str]) -> list[str]:
    """Join notes of one text about many (``"who: what"``) into one that names the first.

    Nobody reads hundreds of lines before the tables.
    """
    by_what: dict[str, list[str]] = {}
    for note in notes:
        by_what.setdefault(note.partition(": ")[2], []).append(note)
    lines = []
    for what, same in by_what.items():
        if not what or len(same) <= NOTES_EACH:
            lines += same
            continue
        first = "; ".join(note.partition(": ")[0] for note in same[:NOTES_EACH])
        lines.append(f"{len(same)} times: {what} ({first}; and {len(same) - NOTES_EACH} more)")
    return lines


def _results(paths: list[Path], metric: str) -> tuple[list[Results], list[str]]:
    """Read per-case results, and the notes about them."""
    from atlas8k.reports.results import METRICS, read_results

    if metric not in METRICS:
        raise typer.BadParameter(f"{metric!r} is not dsc or nsd", param_hint="--metric")
    results = [read_results(path, metric) for path in paths]
    return results, gathered(
        [f"{result.network}: {note}" for result in results for note in result.notes]
    )


@quality.command()
def rounds(
    results: Annotated[
        list[Path], typer.Argument(help="Results of the labels: before, after round 1, 2, …")
    ],
    metric: Metric = "dsc",
    out: Out = Path("quality"),
) -> None:
    """Compare label quality before and after rounds of revision (AbdomenAtlas-8K, Table 5)."""
    from atlas8k.reports.quality import rounds_table

    measured, notes = _results(results, metric)
    tables = [rounds_table(measured)]
    write_page(tables, out, "quality", "Label quality over rounds", notes, tables)


@quality.command("training-sets")
def training_sets(
    first: Annotated[Path, typer.Argument(help="Results of the network trained on one set.")],
    second: Annotated[Path, typer.Argument(help="And on the other, same test set.")],
    metric: Metric = "dsc",
    out: Out = Path("quality"),
) -> None:
    """Compare two training sets on one test set (AbdomenAtlas-8K, Tables 6 and 7)."""
    from atlas8k.reports.quality import training_sets_table

    measured, notes = _results([first, second], metric)
    tables = [training_sets_table(*measured)]
    write_page(tables, out, "quality", "Two training sets", notes, tables)


@quality.command()
def agreement(
    raters: Annotated[
        list[Path], typer.Argument(help="Folders of label maps, one a network or annotator.")
    ],
    orientation: Orientation = None,
    out: Out = Path("quality"),
) -> None:
    """Measure the DSC of every pair of networks and annotators (AbdomenAtlas-8K, Figure 8)."""
    from tqdm import tqdm

    from atlas8k.core.errors import EvaluationError
    from atlas8k.reports.agreement import agreement as run
    from atlas8k.reports.agreement import agreement_tables

    folders = {path.resolve().name: path for path in raters}
    if len(folders) < len(raters):
        raise EvaluationError("raters", "two folders have the same name; rename one")
    with tqdm(desc="agreement", unit="case") as bar:
        agreed = run(folders, lambda _: bar.update(), orientation)
    tables, notes = agreement_tables(agreed), gathered(agreed.notes)
    write_page(tables, out, "quality", "Agreement of every pair", notes, tables[:1])


@quality.command()
def studies(
    folder: Annotated[
        str, typer.Argument(help="Folder of CTs, or DICOMweb URL, as given to the server.")
    ],
    truth: Annotated[
        Path | None,
        typer.Option(help="Folder of labels to measure against; else what was submitted."),
    ] = None,
    rater: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FOLDER: one more rater's labels, for the agreement of pairs."),
    ] = None,
    tolerance: Tolerance = 1.0,
    orientation: Orientation = None,
    ledger: LedgerFile = None,
    out: Out = Path("quality"),
) -> None:
    """Measure rounds, networks and annotators of a studies folder. The server may run.

    Tables: the work of each round; labels before and after each round and, by round, the labels
    given out and submitted (AbdomenAtlas-8K, Table 5); each networks' labels against the ones
    before (Tables 6 and 7); DSC of every pair among networks and annotators, second readings
    included (Figure 8).
    """
    from tqdm import tqdm

    from atlas8k.cli.quality_sources import read_sources
    from atlas8k.reports.folders import find_labels
    from atlas8k.reports.quality import effort_tables

    more = {n: find_labels(at) for n, at in named(rater, "--rater").items()}
    with label_service_of(folder, ledger) as label_service:
        known = label_service.ledger.statuses()
        apart = {} if truth is None else _own(find_labels(truth), set(known), truth)
        sources = read_sources(label_service, tqdm(known, "volumes", leave=False), apart)
        truths = sources.current if truth is None else apart
        notes = [*sources.notes]
        tables: list[Table] = list(effort_tables(sources.efforts)) if sources.efforts else []
        if truths:
            measured, more_notes = _measured(sources, truths, truth, tolerance, orientation)
            tables += measured
            notes += more_notes
        if truth is not None:
            more = {"truth": truths, **more}
        pairs, more_notes = _agreement(label_service, sources, more, {*apart}, orientation)
        tables += pairs
        notes += more_notes
    if not tables:
        notes.append("nobody has submitted a label and no truth is given: nothing to measure")
        for note in notes:
            typer.echo(f"note: {note}")
        raise typer.Exit(1)
    shown = [t for t in tables if not t.name.startswith("agreement-") or t.name.endswith("average")]
    name = folder if "://" in folder else Path(folder).resolve().name
    title = f"Quality of the labels in {name}"
    write_page(tables, out, "quality", title, gathered(notes), shown)


def _own(labels: dict[str, Path], known: set[str], folder: Path) -> dict[str, Path]:
    """Return labels of volumes that the studies folder has."""
    from atlas8k.core.errors import EvaluationError

    own = {case: path for case, path in labels.items() if case in known}
    if not own:
        raise EvaluationError(
            folder, f"has no label of a volume there (its first is {min(labels)}, there "
            f"{min(known, default='none')}); are the case names the same?",
        )  # fmt: skip
    return own


def _measured(
    sources: Sources,
    truths: Mapping[str, Path],
    folder: Path | None,
    tolerance: float,
    orientation: str | None,
) -> tuple[list[Table], list[str]]:
    """Return tables of labels against a truth, and the notes about them."""
    from tqdm import tqdm

    from atlas8k.reports.evaluate import measure_states

    def only(labels: Labels, kind: str) -> Labels:
        """Return labels with `kind` before their names, without cases that have no truth."""
        measured = {
            n: {c: p for c, p in files.items() if c in truths} for n, files in labels.items()
        }
        return {f"{kind}{name}": files for name, files in measured.items() if files}

    apart = folder is not None
    states = {
        **(only(sources.states, "") if apart else {}),
        **only(sources.given, "given "),
        **(only(sources.submitted, "submitted ") if apart else {}),
        **only(sources.networks, "networks "),
    }
    if not states:
        return [], []
    with tqdm(desc="labels", unit="file") as bar:
        results, notes = measure_states(
            states, truths, tolerance, orientation=orientation, progress=lambda _: bar.update()
        )
    tables = _of_metric(sources, results["dsc"], apart=apart)
    for table in _of_metric(sources, results["nsd"], apart=apart):
        from atlas8k.metrics.surface import described

        caption = f"{table.caption} NSD tolerance {described(tolerance)}."
        tables.append(replace(table, caption=caption))
    notes += [] if apart else [DRAWN_FROM]
    notes += [TRAINED_ON] if any(t.name.startswith("networks") for t in tables) else []
    return tables, notes


def _of_metric(sources: Sources, results: dict[str, Results], *, apart: bool) -> list[Table]:
    from atlas8k.reports.quality import (
        Revised,
        revision_table,
        rounds_table,
        training_sets_table,
    )

    tables = []
    order = sorted((name for name in sources.states if name in results), key=_round_order)
    if len(order) > 1:
        tables.append(rounds_table([results[name] for name in order]))
    rounds = [
        Revised(name, results[f"given {name}"], results.get(f"submitted {name}"))
        for name in sources.given
        if f"given {name}" in results
    ]
    if rounds:
        against = "the truth" if apart else "the label of the current submission"
        rounds.sort(key=lambda round_: _round_order(round_.name))
        tables.append(revision_table(rounds, against))
    networks = [
        replace(results[f"networks {name}"], network=name)
        for name in sources.networks
        if f"networks {name}" in results
    ]
    for first, second in pairwise(networks):
        if set(first.cases) & set(second.cases):
            table = training_sets_table(first, second)
            name = f"networks-{first.network}-{second.network}-{first.metric}"
            tables.append(replace(table, name=name, title=f"Networks {table.title}"))
    return tables


def _round_order(name: str) -> tuple[int, str]:
    """Return a sort key: ``before``, rounds by number, ``now``."""
    digits = "".join(letter for letter in name if letter.isdigit())
    return (0 if name == "before" else int(digits) if digits else 1 << 30), name


def _agreement(
    label_service: LabelService,
    sources: Sources,
    more: Mapping[str, Mapping[str, Path]],
    truths: set[str],
    orientation: str | None,
) -> tuple[list[Table], list[str]]:
    from tqdm import tqdm

    from atlas8k.cli.quality_sources import readings
    from atlas8k.core.errors import EvaluationError
    from atlas8k.reports.agreement import agreement_of, agreement_tables

    read = {volume for labels in (*sources.raters.values(), *more.values()) for volume in labels}
    volumes = [v for v in label_service.ledger.statuses() if v in read | truths]
    raters, each = readings(label_service, sources, volumes, more, orientation)
    try:
        agreed = agreement_of(tqdm(each, "agreement", len(volumes), unit="case"), raters)
    except EvaluationError as err:
        return [], [f"no agreement of pairs: {err}"]
    annotators = [raters.index(name) for name in sources.raters]
    notes = []
    if not any(agreed.shared[i, j] for i in annotators for j in annotators if i != j):
        notes.append("no volume was drawn by two annotators: second readings make such pairs")
    return agreement_tables(agreed), [*agreed.notes, *notes]
