"""How often the contrast phase is found: phantoms of four phases, measured on their true labels.

Every phantom is drawn in each phase, so that body, noise and field of view tell nothing. No peer:
classifiers of the phase that are published are trained networks (Baldini et al., 2024; Hou et al.,
arXiv 2501.14066) and need data of their own.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks._quick import parse, report

from abdomen_phantom import generate
from abdomen_phantom.setting import WIDE
from atlas8k.content.features import measure
from atlas8k.content.phase import ARTERIAL, DELAYED, NON_CONTRAST, PORTAL, UNSURE
from atlas8k.core.grid import Volume

PHASES = {"pre": NON_CONTRAST, "arterial": ARTERIAL, "portal": PORTAL, "delayed": DELAYED}
FOUND = (*PHASES.values(), UNSURE)


def found_phase(ct: Volume, label: Volume) -> str:
    """The phase that is estimated for a CT with its true label."""
    return str(measure(ct, label.array[None], label.grid)[0]["phase"])


def confusion(seeds: Iterable[int], spacing_mm: float = 4.0) -> dict[str, Counter[str]]:
    """Counts by found phase, then by the phase that was painted."""
    table: dict[str, Counter[str]] = {found: Counter() for found in FOUND}
    for seed in seeds:
        for phase in PHASES:
            setting = replace(WIDE, phases={phase: 1.0})
            made = generate(seed, setting, grid_spacing_mm=spacing_mm)
            table[found_phase(made.ct, made.label)][phase] += 1
    return table


def main() -> None:
    """Print the confusion table and the share that is right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bodies", type=int, default=25, help="each in four phases")
    parser.add_argument("--first-seed", type=int, default=20_000)
    options = parse(parser, {"bodies": 2})
    table = confusion(range(options.first_seed, options.first_seed + options.bodies))
    print(f"{'found':>14}", *(f"{phase:>9}" for phase in PHASES))
    for found, row in table.items():
        print(f"{found:>14}", *(f"{row[phase]:>9}" for phase in PHASES), flush=True)
    right = {phase: table[found][phase] for phase, found in PHASES.items()}
    figures: dict[str, float] = {f"right_{phase}": n for phase, n in right.items()}
    figures["phantoms"] = len(PHASES) * options.bodies
    figures["share_right"] = sum(right.values()) / figures["phantoms"]
    report("contrast_phase", figures, options)


if __name__ == "__main__":
    main()
