"""How `compare` grows with cases: 50 networks, up to 10,000 cases, processor time and memory.

Results of 50 networks with nine organs, a fifth of them absent, are compared in full:
figures, all pairs, 1,000 bootstrap samples, one grouping. Peer: pandas and scipy called pair
by pair, as analysis scripts do, on one organ, scaled to the ten columns. Each size runs in a
process of its own. Growth of 1 is linear.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import resource
import time

import numpy as np
from _quick import parse, report

from atlas8k.core.structures import ORGAN_NAMES


def make(cases: int, networks: int) -> list[object]:
    from atlas8k.reports.results import Results

    rng = np.random.default_rng(0)
    names = tuple(f"c{n}" for n in range(cases))
    absent = rng.random((cases, len(ORGAN_NAMES))) < 0.2
    level = rng.normal(0.8, 0.1, (cases, len(ORGAN_NAMES)))
    found = []
    for n in range(networks):
        values = np.clip(level + n / 1000 + rng.normal(0, 0.05, level.shape), 0, 1)
        values[absent] = np.nan
        found.append(Results(f"n{n}", "dsc", names, ORGAN_NAMES, values))
    return found


def ours(cases: int, networks: int) -> tuple[float, float]:
    """Processor seconds and peak memory, GB."""
    from atlas8k.reports.compare import compare
    from atlas8k.reports.groups import Grouping
    from atlas8k.reports.results import align

    results = make(cases, networks)
    start = time.process_time()
    panel = align(results)
    sex = Grouping("sex", tuple("fm"[n % 2] for n in range(cases)), ("f", "m"))
    compare(panel, [sex])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return time.process_time() - start, peak


def peer(cases: int, networks: int) -> tuple[float, float]:
    """Processor seconds of the pairwise tests alone, one column times ten."""
    import pandas as pd
    from scipy import stats

    frame = pd.DataFrame({r.network: r.values[:, 4] for r in make(cases, networks)}).dropna()
    start = time.process_time()
    for a in frame:
        for b in frame:
            if a != b:
                stats.wilcoxon(frame[a], frame[b], alternative="greater")
    return 10 * (time.process_time() - start), 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, nargs="+", default=(2500, 10000))
    parser.add_argument("--networks", type=int, default=50)
    options = parse(parser, {"cases": (60, 120), "networks": 3})
    figures: dict[str, float] = {}
    base = {}
    for cases in options.cases:
        for name, side in (("ours", ours), ("peer", peer)):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                base[name, cases] = pool.apply(side, (cases, options.networks))
        (seconds, peak), (other, _) = base["ours", cases], base["peer", cases]
        print(f"{cases} cases: {seconds:.1f} s, {peak:.2f} GB; pairs by pandas {other:.1f} s")
        figures[f"seconds_{cases}"] = round(seconds, 2)
        figures[f"peak_gb_{cases}"] = round(peak, 3)
        figures[f"pairs_by_pandas_s_{cases}"] = round(other, 2)
    small, large = min(options.cases), max(options.cases)
    ratio = math.log(large / small)
    for n, name in enumerate(("time_growth", "memory_growth")):
        growth = math.log(base["ours", large][n] / base["ours", small][n])
        figures[name] = round(growth / ratio, 3)
    report("evaluation_scale", figures, options)


if __name__ == "__main__":
    main()
