"""How much of what is wrong goes with a few strokes, beside MONAI Label's graph cut and a brush.

Usage: ``python tests/benchmarks/strokes.py --work FOLDER [--phantoms 60] [--bodies 30]``

Simulated annotators (:mod:`atlas8k.refine.annotator`) correct each organ that is wrong by 1 ml or
more with ten strokes at most: on wide phantoms (seeds from 15,000), CTs painted on the held-out
bodies s0327 and s0009 (seeds from 16,000), and two real CTs, TotalSegmentator's example against a
network's labels and s0009 against its map. Nothing was chosen by these: ``fit_strokes.py`` has
other seeds and bodies. All on a grid of 2 mm; ``ms_`` are of strokes on voxels of 0.8 x 0.8 x 1 mm.

``gone_after_n`` is the part of the wrong volume, over all organs and CTs, that is not wrong any
more after n strokes on each; ``mean_gone_after_n`` the mean over the organs of CTs; ``worse`` the
part of strokes after which more is wrong than before; ``graphcut_`` is MONAI Label's
``HistogramBasedGraphCut`` and ``brush_`` a brush of 3 mm radius, each with its own annotator.
What is played on a case is stored in FOLDER: a run that was ended goes on.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from _data import BODIES
from _quality_cases import networks_hash, publish
from _quick import parse, print_markdown, report
from _stroke_cases import HELD_OUT, PHANTOMS, REAL, Stored, predictor, stored
from _stroke_peer import by_graph_cut
from _stroke_play import LEAST_ML, ORGANS, about, by_brush, by_model, play

AFTER = (1, 2, 3, 5, 10)
METHODS = ("strokes", "graphcut", "brush", "alone")
FINE_MM = (0.8, 0.8, 1.0)


def version(method: str) -> str:
    """What a row depends on beside its case."""
    from atlas8k.core.files import sha256_of
    from atlas8k.refine.model import FILE

    ours = sha256_of(FILE)[:12] if method in ("strokes", "alone") else "peer"
    return f"{networks_hash()}-{ours}"


@cache
def answer_of(method: str):
    """A method of answering strokes."""
    from atlas8k.refine.model import embedded_model

    if method == "graphcut":
        return by_graph_cut()
    if method == "brush":
        return by_brush()
    return by_model(embedded_model(), opinions=method == "strokes")


def played(case: Stored, method: str, strokes: int) -> list[dict[str, Any]]:
    """Wrong ml and DSC of each organ after each stroke, a row an organ."""
    rows = []
    for organ in ORGANS:
        rng = np.random.default_rng([organ, sum(case.name.encode())])
        part = about(case, organ)
        wrong, dsc = [], []
        for step in play(part, organ, answer_of(method), strokes, rng):
            wrong.append(round(step.wrong_ml, 4))
            dsc.append(round(step.dsc, 4))
            if step.number == 0 and step.wrong_ml < LEAST_ML:
                break
        if wrong[0] >= LEAST_ML:
            rows.append({"case": case.name, "organ": organ, "wrong_ml": wrong, "dsc": dsc})
    return rows


def opinions_of(probs: np.ndarray, source: Any, grid: Any) -> Any:
    """What networks think on a grid, interpolated as the app does."""
    from atlas8k.core.resample import resample
    from atlas8k.refine.strokes import Opinions

    found = [resample(one, source, grid, linear=True) for one in probs]
    return Opinions(np.stack(found), resample(probs[0], source, grid, linear=True))


def timed(case: Stored) -> list[float]:
    """Milliseconds of each organ's first stroke on fine voxels, all that a request computes."""
    from atlas8k.core.resample import resample
    from atlas8k.core.volume import Grid
    from atlas8k.refine.annotator import next_stroke
    from atlas8k.refine.strokes import Strokes, refine

    found = []
    for organ in ORGANS:
        part = about(case, organ)
        mask, truth = part.pseudo == organ, part.truth == organ
        stroke = next_stroke(mask, truth, (2.0, 2.0, 2.0), np.random.default_rng(organ))
        if stroke is None:
            continue
        coarse = Grid(part.ct.shape, np.diag([2.0, 2.0, 2.0, 1.0]))
        fine = coarse.working(FINE_MM)
        ct = resample(part.ct, coarse, fine, linear=True)
        label = resample(part.pseudo, coarse, fine, linear=False)
        scale = 2.0 / np.asarray(fine.spacing)
        points = np.rint((stroke.voxels + 0.5) * scale - 0.5).astype(int)
        points = np.clip(points, 0, np.asarray(fine.shape) - 1)
        none = np.zeros((0, 3), dtype=int)
        strokes = Strokes(*((points, none) if stroke.organ else (none, points)))

        opinions = partial(opinions_of, part.probs[:, organ - 1], coarse)
        for _ in range(2):
            begun = time.perf_counter()
            box = strokes.contradicting(label, organ).box(fine, case.name)
            if box is None:
                break
            start = [s.start for s in box]
            within = Strokes(strokes.inside - start, strokes.outside - start)
            refine(ct[box], label[box], fine.crop(box), organ, within, opinions)
            found.append((time.perf_counter() - begun) * 1000)
    return found[1:]


def figures_of(rows: list[dict[str, Any]], prefix: str = "") -> dict[str, float]:
    """Figures of one method."""
    from atlas8k.core.structures import ORGAN_NAMES

    def at(values: list[float], n: int) -> float:
        return values[min(n, len(values) - 1)]

    out: dict[str, float] = {}
    if not rows:
        return out
    by_organ = defaultdict(list)
    for row in rows:
        by_organ[ORGAN_NAMES[row["organ"] - 1]].append(row)
    for n in AFTER:
        before = sum(row["wrong_ml"][0] for row in rows)
        left = sum(at(row["wrong_ml"], n) for row in rows)
        out[f"{prefix}gone_after_{n}"] = 1 - left / before
        out[f"{prefix}mean_gone_after_{n}"] = float(
            np.mean([1 - at(row["wrong_ml"], n) / row["wrong_ml"][0] for row in rows])
        )
        out[f"{prefix}dsc_after_{n}"] = float(np.mean([at(row["dsc"], n) for row in rows]))
    out[f"{prefix}dsc_before"] = float(np.mean([row["dsc"][0] for row in rows]))
    steps = [b > a for row in rows for a, b in zip(row["wrong_ml"], row["wrong_ml"][1:])]  # noqa: B905
    out[f"{prefix}worse"] = float(np.mean(steps)) if steps else float("nan")
    for organ, some in by_organ.items():
        for n in AFTER:
            before = sum(row["wrong_ml"][0] for row in some)
            left = sum(at(row["wrong_ml"], n) for row in some)
            out[f"{prefix}gone_after_{n}_{organ}"] = 1 - left / before
    return out


def main() -> None:
    """Play what is not stored, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phantoms", type=int, default=60)
    parser.add_argument("--bodies", type=int, default=30)
    parser.add_argument("--real", type=int, default=2)
    parser.add_argument("--strokes", type=int, default=10)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--timed", type=int, default=5, help="CTs whose strokes are timed")
    parser.add_argument("--work", type=Path, help="folder of what is stored between runs")
    options = parse(parser, {"phantoms": 1, "bodies": 0, "real": 0, "strokes": 2, "timed": 1})
    with tempfile.TemporaryDirectory() as folder:
        run(options, options.work or Path(folder))


def run(options: argparse.Namespace, work: Path) -> None:
    """Everything that is asked for."""
    networks = cache(predictor)
    tasks = [(PHANTOMS, n) for n in range(options.phantoms)]
    if BODIES.is_dir():
        tasks += [(HELD_OUT, n) for n in range(options.bodies)]
        tasks += [(REAL, n) for n in range(options.real)]
    elif options.bodies or options.real:
        print(f"no bodies and real CTs: {BODIES} is not there")
    methods, milliseconds = options.methods.split(","), []
    rows: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for number, (group, index) in enumerate(tasks):
        case = None
        for method in methods:
            path = work / f"{group.name}_{index:03d}.{method}.json"
            asked = {"version": version(method), "strokes": options.strokes}
            try:
                known = json.loads(path.read_text(encoding="utf-8"))
            except FileNotFoundError:
                known = {}
            if {key: known.get(key) for key in asked} != asked:
                case = case or stored(work, group, index, networks)
                known = {**asked, "rows": played(case, method, options.strokes)}
                publish(path, json.dumps(known).encode())
            rows[method, group.name] += known["rows"]
        if number < options.timed and "strokes" in methods:
            milliseconds += timed(case or stored(work, group, index, networks))
    figures: dict[str, Any] = {"cases": len(tasks), "organs": 0}
    lines = []
    for method in methods:
        prefix = "" if method == "strokes" else f"{method}_"
        everything = [row for (one, _), some in rows.items() if one == method for row in some]
        figures |= figures_of(everything, prefix)
        figures["organs"] = max(figures["organs"], len(everything))
        for (one, group), some in rows.items():
            if one == method and some:
                lines.append(line(method, group, figures_of(some), len(some)))
                for n in AFTER:
                    value = figures_of(some)[f"gone_after_{n}"]
                    figures[f"{prefix}gone_after_{n}_{group}"] = value
    if milliseconds:
        figures["ms_p50"], figures["ms_p99"] = np.percentile(milliseconds, [50, 99]).tolist()
    if lines:
        print_markdown(lines)
    rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in figures.items()}
    report("strokes", rounded, options)


def line(method: str, group: str, figures: dict[str, float], organs: int) -> dict[str, str]:
    """A line of the table."""
    return {
        "": method,
        "on": group,
        "organs": str(organs),
        **{f"gone after {n}": f"{figures[f'gone_after_{n}']:.2f}" for n in AFTER},
        "DSC before": f"{figures['dsc_before']:.3f}",
        **{f"DSC after {n}": f"{figures[f'dsc_after_{n}']:.3f}" for n in (1, 3, 10)},
        "worse": f"{figures['worse']:.3f}",
    }


if __name__ == "__main__":
    main()
