"""``atlas8k cross``: compare training sets by test sets, from results or by running networks."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atlas8k.cli.options import Device, Orientation, named
from atlas8k.cli.terminal_tables import write_page

if TYPE_CHECKING:
    from atlas8k.models.predict import Predictor

log = logging.getLogger(__name__)


def _predictor(source: Path, mirror: str, device: str) -> Predictor:
    """Load the networks of a checkpoint or a models folder, mirrored along axes of RAS."""
    from atlas8k.models.checkpoint import load_checkpoint
    from atlas8k.models.predict import Predictor
    from atlas8k.models.store import ModelStore

    networks = (
        ModelStore(source).served() if source.is_dir() else {source.stem: load_checkpoint(source)}
    )
    return Predictor(
        networks, device=device, mirror_axes=["xyz".index(letter) for letter in mirror]
    )


def _run(
    predictor: Predictor, test: str, images: Path, labels: Path, out: Path, tolerance: float,
    orientation: str | None,
) -> None:  # fmt: skip
    """Predict every case of a test set and write its results to ``out``."""
    from tqdm import tqdm

    from atlas8k.core.errors import Atlas8kError, EvaluationError
    from atlas8k.core.volume import Volume, read_ct
    from atlas8k.reports.evaluate import evaluate_volumes, results_of
    from atlas8k.reports.folders import (
        Truth,
        find_ct,
        find_labels,
        read_case,
        read_oriented,
    )
    from atlas8k.reports.results import write_results

    cases = {}
    for case, path in tqdm(find_labels(labels).items(), desc=f"{out.parent.name} on {test}"):
        ct_path = find_ct(images, case)
        try:
            if ct_path is None:
                raise EvaluationError(images, f"has no CT of {case}")
            ct = read_oriented(read_ct, ct_path, orientation)
            prediction = predictor.predict(ct)
            # An organ that no network has an output for does not count as missed.
            covered = prediction.covered.any(axis=0)
            organs = frozenset(o for o, has in zip(prediction.organs, covered, strict=True) if has)
            label = Volume(prediction.label_on(ct.grid), ct.grid, ct_path)
            truth = Truth(read_case(path, orientation), organs)
            cases[case] = evaluate_volumes(label, truth, tolerance)
        except Atlas8kError as err:
            log.error("%s is left out: %s", case, err)
    if not cases:
        raise EvaluationError(labels, f"no case of {test} could be run")
    for results in results_of(out.parent.name, cases):
        write_results(out / f"{results.metric}.csv", results)


def cross(
    results: Annotated[
        Path, typer.Argument(help="Folder with <train>/<test>/dsc.csv and nsd.csv.")
    ],
    train: Annotated[
        list[str] | None,
        typer.Option(help="NAME=CHECKPOINT.safetensors or NAME=MODELS_FOLDER: run this first."),
    ] = None,
    test: Annotated[
        list[str] | None, typer.Option(help="NAME=CT_FOLDER,LABEL_FOLDER: run on this set.")
    ] = None,
    mirror: Annotated[
        str,
        typer.Option(
            help="Mirror inputs along these axes of RAS when running, e.g. xyz; none by default. "
            "x swaps left and right: only for networks trained with that."
        ),
    ] = "",
    both: Annotated[
        bool, typer.Option("--both", help="With --mirror: also without, rows NAME and NAME+yz.")
    ] = False,
    tolerance: Annotated[float, typer.Option(min=0.0, help="Of NSD when running, mm.")] = 1.0,
    orientation: Orientation = None,
    device: Device = "cpu",
    out: Annotated[
        Path | None, typer.Option(help="Folder for page and tables; RESULTS-cross by default.")
    ] = None,
) -> None:
    """Make A-Eval's matrix: every training set on every test set, over their shared classes.

    With --train and --test the networks are run first and their results written to RESULTS.
    """
    from atlas8k.core.errors import EvaluationError
    from atlas8k.reports.cross import cross_table, read_cross

    networks, sets = named(train, "--train"), named(test, "--test")
    if bool(networks) != bool(sets):
        raise typer.BadParameter("--train and --test go together")
    if set(mirror) - set("xyz") or len(set(mirror)) < len(mirror):
        raise typer.BadParameter(f"{mirror!r} is not some of xyz", param_hint="--mirror")
    if both and not mirror:
        raise typer.BadParameter("--both goes with --mirror")
    runs = [(name, source, mirror) for name, source in networks.items()]
    if both:
        runs = [
            run
            for name, source, _ in runs
            for run in ((name, source, ""), (f"{name}+{mirror}", source, mirror))
        ]
    for name, source, axes in runs:
        predictor = _predictor(Path(source), axes, device)
        for test_name, folders in sets.items():
            images, _, labels = folders.partition(",")
            if not labels:
                raise typer.BadParameter(f"{folders!r} is not CT_FOLDER,LABEL_FOLDER")
            where = results / name / test_name
            _run(predictor, test_name, Path(images), Path(labels), where, tolerance, orientation)
    tables, notes = [], []
    for metric in ("dsc", "nsd"):
        try:
            matrix = read_cross(results, metric)
        except EvaluationError:
            if metric == "dsc":
                raise
            typer.echo("no NSD: RESULTS has no <train>/<test>/nsd.csv")
            continue
        tables.append(cross_table(matrix))
        notes += [f"{metric.upper()}: {note}" for note in matrix.notes]
    folder = out or results.resolve().with_name(f"{results.resolve().name}-cross")
    write_page(tables, folder, "cross", "Training sets by test sets", notes, tables)
