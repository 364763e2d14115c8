"""Do anatomical checks find planted faults, and do they let rare patients pass?

Usage: ``python tests/benchmarks/checks_quality.py [--phantoms 100] [--faults 60]``

Right label maps are those of wide phantoms (exact truth, 3 mm, see ``separated``) as drawn, after
cholecystectomy, splenectomy or nephrectomy, with a horseshoe kidney, with situs inversus, and cut
by the field of view. Faults of every kind (``_planted_faults``) are planted in right ones over a
range of severities. A fault is found where a rule of its kind names one of its organs and did not
before; `any rule` asks for a new finding on one of its organs, whichever. Precision is what share
of flagged organs are wrong where as many are as Touchstone's appendix E counted: aorta 32.4 %,
kidneys 2.6 %, others 1 % (it says: under 1 %).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import starmap
from multiprocessing import get_context
from typing import Any

import numpy as np
from _planted_faults import CLEAN, KINDS, MM, separated
from _quick import parse, report
from scipy.stats import beta

NOISE = {"aorta": 0.324, "kidney_left": 0.026, "kidney_right": 0.026}
OTHERS = 0.01
ASKED = ("horseshoe kidney", "situs inversus")
"""What a check cannot tell from a fault, and asks about: no part of the precision."""
FIRST_SEED = 21_000
SEVERITIES = 6


def judged(number: int, clean: int, faults: int) -> dict[str, Any]:
    """All that the checks say of one phantom: ``clean`` right maps, ``faults`` of every kind.

    Returns
    -------
    dict
        ``clean``: what is rare, and organs and rules found; ``faults``: kind, severity, organs,
        whether a rule of the kind found it, any rule.
    """
    from abdomen_phantom import exact_label
    from abdomen_phantom.generate import PhantomPainter
    from abdomen_phantom.scanner import ras_grid
    from abdomen_phantom.setting import WIDE
    from atlas8k.core.grid import Grid
    from atlas8k.labels.checks import label_findings

    seed = FIRST_SEED + number
    scan = PhantomPainter(seed, WIDE, coarse=True).scan
    grid = ras_grid(scan, (MM, MM, MM))
    drawn = separated(exact_label(seed, WIDE, grid))

    def findings(label: np.ndarray, absent: Sequence[str] = ()) -> set[tuple[str, str]]:
        found = label_findings(label, Grid(label.shape, grid.affine), absent)
        return {(one.organ, one.rule) for one in found}

    rng = np.random.default_rng(seed)
    names = list(CLEAN)
    right = []
    for turn in range(clean):
        name = names[(number * clean + turn) % len(names)]
        right.append((name, sorted(findings(CLEAN[name](drawn, rng)))))
    before, wrong = findings(drawn), []
    for kind, (plant, rules) in KINDS.items():
        for turn in range(faults):
            severity = ((number * faults + turn) % SEVERITIES) / (SEVERITIES - 1)
            planted = plant(drawn, severity, rng)
            if planted is None:
                continue
            new = findings(planted.label, planted.absent) - before
            mine = {rule for organ, rule in new if organ in planted.organs}
            wrong.append((kind, severity, planted.organs, bool(mine & {*rules}), bool(mine)))
    return {"clean": right, "faults": wrong}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phantoms", type=int, default=100)
    parser.add_argument("--clean", type=int, default=3, help="right maps of each")
    parser.add_argument("--faults", type=int, default=1, help="of each kind in each")
    parser.add_argument("--processes", type=int, default=2)
    options = parse(parser, {"phantoms": 3, "clean": 7, "processes": 1}, arguments)
    tasks = [(number, options.clean, options.faults) for number in range(options.phantoms)]
    if options.processes == 1:
        rows = list(starmap(judged, tasks))
    else:
        with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
            rows = list(pool.map(judged, *zip(*tasks, strict=True)))
    figures = clean_figures([one for row in rows for one in row["clean"]])
    figures |= fault_figures([one for row in rows for one in row["faults"]])
    figures |= precision_figures(rows)
    report("checks_quality", {name: round(v, 4) for name, v in figures.items()}, options)


def clean_figures(clean: list[tuple[str, list[tuple[str, str]]]]) -> dict[str, float]:
    """Print how many right maps are flagged, by what is rare and by rule."""
    print(f"\n{len(clean)} right label maps\n\n| what is rare | maps | with a finding | rules |")
    print("| --- | --- | --- | --- |")
    figures: dict[str, float] = {"clean": len(clean)}
    for name in CLEAN:
        own = [found for rare, found in clean if rare == name]
        flagged = [found for found in own if found]
        rules: dict[str, int] = defaultdict(int)
        for found in flagged:
            for organ, rule in found:
                rules[f"{rule} ({organ})"] += 1
        most = sorted(rules.items(), key=lambda item: -item[1])[:6]
        print(
            f"| {name} | {len(own)} | {len(flagged)} | {', '.join(f'{n} {r}' for r, n in most)} |"
        )
        figures[f"flagged_{name.replace(' ', '_')}"] = len(flagged) / max(1, len(own))
    figures["flagged"] = float(np.mean([bool(found) for rare, found in clean if rare not in ASKED]))
    return figures


def fault_figures(faults: list[tuple[str, float, Any, bool, bool]]) -> dict[str, float]:
    """Print how many faults of each kind are found, and from which severity on."""
    levels = [turn / (SEVERITIES - 1) for turn in range(SEVERITIES)]
    print(f"\n| fault | planted | found | by any rule | {' | '.join(f'{x:.1f}' for x in levels)} |")
    print("| --- " * (4 + len(levels)) + "|")
    figures: dict[str, float] = {}
    for kind in KINDS:
        own = [one for one in faults if one[0] == kind]
        if not own:
            continue
        by_level = [[one[3] for one in own if one[1] == level] for level in levels]
        found, any_rule = (float(np.mean([one[index] for one in own])) for index in (3, 4))
        cells = " | ".join(f"{np.mean(one):.2f}" if one else "" for one in by_level)
        print(f"| {kind} | {len(own)} | {found:.2f} | {any_rule:.2f} | {cells} |")
        figures |= {
            f"planted_{kind.replace(' ', '_')}": len(own),
            f"sensitivity_{kind.replace(' ', '_')}": found,
        }
    return figures


def precision_figures(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Print sensitivity, false alarms and precision by organ, at the published noise."""
    from atlas8k.core.structures import ORGAN_NAMES

    clean = [
        {organ for organ, _ in found}
        for row in rows
        for rare, found in row["clean"]
        if rare not in ASKED
    ]
    faults = [one for row in rows for one in row["faults"]]
    print(
        f"\n{len(clean)} right maps without {' or '.join(ASKED)}; in brackets at the upper end of "
        "the 95 % interval of what is flagged\n\n| organ | faults | found | right maps flagged | "
        "wrong, as published | precision |\n| --- | --- | --- | --- | --- | --- |"
    )
    figures: dict[str, float] = {}
    for organ in ORGAN_NAMES:
        own = [one[4] for one in faults if organ in one[2]]
        sensitivity = float(np.mean(own)) if own else float("nan")
        count, rate = sum(organ in found for found in clean), NOISE.get(organ, OTHERS)
        most = float(beta.ppf(0.975, count + 1, len(clean) - count)) if count < len(clean) else 1.0
        alarms = count / len(clean)
        precision, least = (
            rate * sensitivity / (rate * sensitivity + (1 - rate) * share or np.nan)
            for share in (alarms, most)
        )
        print(
            f"| {organ} | {len(own)} | {sensitivity:.2f} | {count} ({most:.1%}) | {rate:.1%} | "
            f"{precision:.2f} ({least:.2f}) |"
        )
        figures |= {
            f"alarms_{organ}": alarms,
            f"precision_{organ}": precision,
            f"least_precision_{organ}": least,
        }
    return figures


if __name__ == "__main__":
    main()
