"""``atlas8k quality studies``: the papers' tables straight from a studies folder and its ledger."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atlas8k.cli.options import LedgerFile
from atlas8k.cli.quality import Out, quality, write_quality

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from atlas8k.cli.quality_sources import Labels, Sources
    from atlas8k.evaluation.states import States
    from atlas8k.evaluation.tables import Table
    from atlas8k.server.desk.service import LabelService

DRAWN_FROM = (
    "Against submissions: they were drawn from the labels that are measured here, so what nobody "
    "corrected counts as right; --truth FOLDER gives labels that were drawn apart"
)
TRAINED_ON = (
    "Networks: volumes submitted before a network was trained may be among those it has learnt "
    "from; only volumes kept apart show what another round of training brings"
)


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
    tolerance: Annotated[float, typer.Option(min=0.0, help="Of NSD, mm.")] = 1.0,
    ledger: LedgerFile = None,
    out: Out = Path("quality"),
) -> None:
    """All of it from a studies folder: rounds, networks, annotators. The server may run.

    What was done in each round; labels before and after each round and, by round, the labels
    given out and submitted (AbdomenAtlas-8K, Table 5); each networks' labels against the ones
    before (Tables 6 and 7); DSC of every pair among networks and annotators, second readings
    included (Figure 8).
    """
    from tqdm import tqdm

    from atlas8k.cli.labels_history import desk_of
    from atlas8k.cli.options import named
    from atlas8k.cli.quality_sources import read_sources
    from atlas8k.evaluation.folders import find_labels
    from atlas8k.evaluation.revision import effort_tables

    more = {n: find_labels(at) for n, at in named(rater or [], "--rater").items()}
    with desk_of(folder, ledger) as desk:
        known = desk.ledger.statuses()
        apart = {} if truth is None else _own(find_labels(truth), set(known), truth)
        found = read_sources(desk, tqdm(known, "volumes", leave=False), apart)
        truths = found.in_force if truth is None else apart
        notes = [*found.notes]
        tables: list[Table] = list(effort_tables(found.efforts)) if found.efforts else []
        if truths:
            with tqdm(desc="labels", unit="file") as bar:
                made, said = _measured(
                    found, truths, truth, tolerance, lambda _: (bar.update(), None)[1]
                )
            tables += made
            notes += said
        if truth is not None:
            more = {"truth": truths, **more}
        pairs, said = _agreement(desk, found, more, set(truths) if truth is not None else set())
        tables += pairs
        notes += said
    if not tables:
        notes.append("nobody has submitted a label and no truth is given: nothing to measure")
        for note in notes:
            typer.echo(f"note: {note}")
        raise typer.Exit(1)
    shown = [t for t in tables if not t.name.startswith("agreement-") or t.name.endswith("average")]
    write_quality(tables, out, f"Quality of the labels in {_name(folder)}", notes, shown)


def _name(studies: str) -> str:
    """What a page calls them: the folder's name, or the URL."""
    return studies if "://" in studies else Path(studies).resolve().name


def _own(labels: dict[str, Path], known: set[str], folder: Path) -> dict[str, Path]:
    """Labels of volumes that the studies folder has."""
    from atlas8k.evaluation.errors import EvaluationError

    own = {case: path for case, path in labels.items() if case in known}
    if not own:
        raise EvaluationError(
            folder, f"has no label of a volume there (its first is {min(labels)}, there "
            f"{min(known, default='none')}); are the case names the same?",
        )  # fmt: skip
    return own


def _measured(
    found: Sources,
    truths: Mapping[str, Path],
    folder: Path | None,
    tolerance: float,
    progress: Callable[[str], None],
) -> tuple[list[Table], list[str]]:
    """Tables of labels against a truth, and what to know about them."""
    from atlas8k.evaluation.states import measure_states

    def only(labels: Labels, kind: str) -> Labels:
        """Under names of their own, without cases that have no truth."""
        of = {n: {c: p for c, p in files.items() if c in truths} for n, files in labels.items()}
        return {f"{kind}{name}": files for name, files in of.items() if files}

    apart = folder is not None
    wanted = {
        **(only(found.states, "") if apart else {}),
        **only(found.given, "given "),
        **(only(found.submitted, "submitted ") if apart else {}),
        **only(found.networks, "networks "),
    }
    if not wanted:
        return [], []
    states = measure_states(wanted, truths, tolerance, progress=progress)
    tables = []
    for metric in ("dsc", "nsd"):
        tables += _of_metric(found, states, metric, tolerance, apart=apart)
    notes = [*states.notes]
    notes += [] if apart else [DRAWN_FROM]
    notes += [TRAINED_ON] if any(t.name.startswith("networks") for t in tables) else []
    return tables, notes


def _of_metric(
    found: Sources, states: States, metric: str, tolerance: float, *, apart: bool
) -> list[Table]:
    from dataclasses import replace

    from atlas8k.evaluation.quality import rounds_table, training_sets_table
    from atlas8k.evaluation.revision import Revised, revision_table

    results = states.of(metric)
    tables = []
    order = sorted((name for name in found.states if name in results), key=_place)
    if len(order) > 1:
        tables.append(rounds_table([results[name] for name in order]))
    rounds = [
        Revised(name, results[f"given {name}"], results.get(f"submitted {name}"))
        for name in found.given
        if f"given {name}" in results
    ]
    if rounds:
        against = "the truth" if apart else "the label of the submission in force"
        rounds.sort(key=lambda one: _place(one.name))
        tables.append(revision_table(rounds, against))
    named = [
        replace(results[f"networks {name}"], network=name)
        for name in found.networks
        if f"networks {name}" in results
    ]
    for first, second in pairwise(named):
        if set(first.cases) & set(second.cases):
            table = training_sets_table(first, second)
            name = f"networks-{first.network}-{second.network}-{metric}"
            tables.append(replace(table, name=name, title=f"Networks {table.title}"))
    if metric == "nsd":
        told = f" NSD tolerance {tolerance:g} mm."
        tables = [replace(table, caption=table.caption + told) for table in tables]
    return tables


def _place(name: str) -> tuple[int, str]:
    """``before``, rounds by number, ``now``."""
    digits = "".join(letter for letter in name if letter.isdigit())
    return (0 if name == "before" else int(digits) if digits else 1 << 30), name


def _agreement(
    desk: LabelService, found: Sources, more: Mapping[str, Mapping[str, Path]], truths: set[str]
) -> tuple[list[Table], list[str]]:
    from tqdm import tqdm

    from atlas8k.cli.quality_sources import readings
    from atlas8k.evaluation.agreement import agreement_of, agreement_tables
    from atlas8k.evaluation.errors import EvaluationError

    read = {volume for labels in (*found.raters.values(), *more.values()) for volume in labels}
    volumes = [v for v in desk.ledger.statuses() if v in read | truths]
    raters, each = readings(desk, found, volumes, more)
    try:
        agreed = agreement_of(tqdm(each, "agreement", len(volumes), unit="case"), raters)
    except EvaluationError as err:
        return [], [f"no agreement of pairs: {err}"]
    at = [raters.index(name) for name in found.raters]
    notes = []
    if not any(agreed.shared[i, j] for i in at for j in at if i != j):
        notes.append("no volume was drawn by two annotators: second readings make such pairs")
    return agreement_tables(agreed), [*agreed.notes, *notes]
