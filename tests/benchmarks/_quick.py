"""The ``--quick`` form of every benchmark: does it run on today's code? It says nothing else."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any


def parse(
    parser: argparse.ArgumentParser,
    quick: Mapping[str, Any],
    arguments: Sequence[str] | None = None,
) -> argparse.Namespace:
    """Parse arguments; with ``--quick``, what is not given is as `quick` says.

    Parameters
    ----------
    quick
        Values of arguments with which the whole benchmark takes seconds.
    """
    parser.add_argument(
        "--quick", action="store_true", help="tiny inputs: shows that it runs, its figures are none"
    )
    if parser.parse_known_args(arguments)[0].quick:
        parser.set_defaults(**quick)
    return parser.parse_args(arguments)


def print_markdown(rows: Sequence[Mapping[str, str]]) -> None:
    """Print rows of the same columns as a table of Markdown."""
    print(f"| {' | '.join(rows[0])} |\n{'| --- ' * len(rows[0])}|")
    for row in rows:
        print(f"| {' | '.join(row.values())} |")


def report(benchmark: str, figures: Mapping[str, Any], options: argparse.Namespace) -> None:
    """Print the one line of JSON that every benchmark ends with; NaN is null in it."""
    known = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in figures.items()
    }
    quick = {"quick": True} if options.quick else {}
    print(json.dumps({"benchmark": benchmark, **quick, "figures": known}), flush=True)
