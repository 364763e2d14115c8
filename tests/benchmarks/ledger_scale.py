"""How long the ledger takes at 1,000, 8,448 and 100,000 volumes, and how much it grows.

A campaign in small: every volume scored under one model version, a twentieth of them reviewed,
then samples are given out by each strategy to sixteen holders who skip and submit, while
scores under a second model version are recorded in between. Every call is one transaction on a
real file. Peer: one row a volume in a table without the queue, sorted at each request.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from _quick import parse, report

from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.store import Holder, Ledger, OrganScore

Figures = dict[str, float]


def percentiles(name: str, seconds: list[float]) -> Figures:
    ordered = sorted(seconds)
    return {
        f"{name}_p{p}_ms": round(1000 * ordered[min(len(ordered) - 1, len(ordered) * p // 100)], 4)
        for p in (50, 99)
    }


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def sizes(rng: random.Random) -> dict[str, OrganScore]:
    """Attention sizes as they come: log-normal, a few ml an organ."""
    return {organ: OrganScore(rng.lognormvariate(0.5, 1.2), 1.0, 1.0, 1.0) for organ in ORGAN_NAMES}


def names(n: int) -> Iterator[str]:
    return (f"BDMAP_{i:08d}" for i in range(n))


def ledger_figures(folder: Path, n: int, rounds: int) -> Figures:
    rng = random.Random(n)
    figures: Figures = {}
    start = time.perf_counter()
    ledger = Ledger(folder / f"{n}.sqlite", budget=0.05)
    ledger.sync_volumes(names(n))
    figures["sync_new_s"] = round(time.perf_counter() - start, 3)
    figures["sync_unchanged_s"] = round(timed(lambda: ledger.sync_volumes(names(n))), 3)
    ledger.register_model_version("first", {})
    order = list(names(n))
    rng.shuffle(order)
    scores = [timed(lambda v=v: ledger.record_score(v, "first", sizes(rng))) for v in order]
    figures |= percentiles("record_score", scores[-rounds:])

    reviewer = Holder.identify(user="reviewer")
    submits = []
    for _ in range(min(n // 20, 5000)):
        sample = ledger.next_sample(holder=reviewer, model_version="first")
        assert sample is not None
        submits.append(timed(lambda s=sample: ledger.submit(s.volume, reviewer, sha256="0" * 64)))
    figures |= percentiles("submit", submits)

    ledger.register_model_version("second", {})
    holders = [Holder.identify(client_id=f"client {i}") for i in range(16)]
    taken: dict[str, list[float]] = {"attention": [], "first": [], "random": [], "organ": []}
    again: list[float] = []
    for i in range(rounds):
        holder = holders[i % 16]
        kind = list(taken)[i // 16 % 4]
        organ = "pancreas" if kind == "organ" else None
        strategy = "attention" if kind == "organ" else kind
        start = time.perf_counter()
        sample = ledger.next_sample(
            holder=holder, model_version="second", strategy=strategy, organ=organ
        )
        taken[kind].append(time.perf_counter() - start)
        assert sample is not None
        again.append(timed(lambda i=i: ledger.record_score(order[i % n], "second", sizes(rng))))
        if i % 3 == 0:
            ledger.submit(sample.volume, holder)
    figures |= percentiles("next_sample", taken["attention"])
    for kind in ("first", "random", "organ"):
        figures |= percentiles(f"next_sample_{kind}", taken[kind])
    figures |= percentiles("record_score_second", again)
    figures["progress_ms"] = round(1000 * timed(lambda: ledger.progress("second")), 4)
    figures["stale_ms"] = round(1000 * timed(lambda: ledger.stale("second", 1)), 3)
    figures["ranking_100_ms"] = round(1000 * timed(lambda: ledger.ranking("first", limit=100)), 3)
    start = time.perf_counter()
    Ledger(ledger.path)
    figures["open_ms"] = round(1000 * (time.perf_counter() - start), 3)
    ledger.close()
    figures["file_mb"] = round(ledger.path.stat().st_size / 1e6, 1)
    return figures


def sorting_peer(folder: Path, n: int, rounds: int) -> Figures:
    """The plain way: sum, filter and sort all scores at each request."""
    rng = random.Random(n)
    connection = sqlite3.connect(folder / f"peer{n}.sqlite", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE score (volume TEXT, organ TEXT, ml REAL, open INT)")
    connection.execute("BEGIN")
    for name in names(n):
        rows = [(name, organ, score.attention_ml, 1) for organ, score in sizes(rng).items()]
        connection.executemany("INSERT INTO score VALUES (?,?,?,?)", rows)
    connection.execute("COMMIT")
    query = (
        "SELECT volume, sum(ml) AS size FROM score WHERE open = 1"
        " GROUP BY volume ORDER BY size DESC LIMIT 1"
    )
    times = [timed(lambda: connection.execute(query).fetchone()) for _ in range(rounds)]
    connection.close()
    return percentiles("sorting_next_sample", times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--volumes", type=int, nargs="+", default=[1000, 8448, 100_000])
    parser.add_argument("--rounds", type=int, default=2000, help="calls measured at each size")
    arguments = parse(parser, {"volumes": [200, 400], "rounds": 64})
    figures: Figures = {}
    by_size: dict[int, Figures] = {}
    with tempfile.TemporaryDirectory() as name:
        for n in arguments.volumes:
            by_size[n] = ledger_figures(Path(name), n, arguments.rounds)
            by_size[n] |= sorting_peer(Path(name), n, 5 if n > 10_000 else 30)
            for figure, value in by_size[n].items():
                print(f"{n:>7} {figure:<28} {value}")
                figures[f"{figure}_{n}"] = value
            sys.stdout.flush()
    small, large = by_size[min(by_size)], by_size[max(by_size)]
    for name in ("next_sample", "record_score"):
        key = f"{name}_p50_ms"
        figures[f"{name}_growth"] = round(large[key] / small[key], 2)
    report("ledger_scale", figures, arguments)


if __name__ == "__main__":
    main()
