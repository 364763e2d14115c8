"""Which volumes should be reviewed first, where networks learn from them? Strategies side by side.

Usage: ``python tests/benchmarks/campaign_fine_tuning.py --work FOLDER [--oracles everything]``

Two small networks predict a pool of wide phantoms and of CTs painted on four bodies, at 6 mm
(``_tuning_place``). In each seed, each strategy reviews the same part of the pool in three rounds;
after each, the networks are trained on with the project's loop on all labels so far and predict
again. Judged are the fused labels, the labels of what nobody saw, and
the networks on CTs painted on two held-out bodies.

Each round of each strategy and seed is kept in FOLDER when it is whole: a run that was ended, or
killed, goes on when the command is repeated, and ``--table`` prints what is known meanwhile.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from _data import BODIES
from _quick import parse, print_markdown, report
from _tuning_place import Place, Scale

SHOWN = ("expected_error", "pairwise_dice", "random_foreground")
QUICK = Scale(
    mm=12.0, started_on=2, learnt_from=0, pool=4, judged=1,
    start_steps=2, steps=1, bodies=False,
)  # fmt: skip


def strategies(names: Sequence[str]) -> dict[str, Any]:
    """Strategies by name: rankings, and selections by the default ranking."""
    from atlas8k.campaign.strategies import Strategy
    from atlas8k.core.rankings import DEFAULT_RANKING, RANKINGS

    return {
        name: Strategy(name, "ranking") if name in RANKINGS else Strategy(DEFAULT_RANKING, name)  # type: ignore[arg-type]
        for name in names
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="folder of what is kept between runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--budget", type=int, default=4, help="volumes reviewed in a round")
    parser.add_argument("--part", type=int, default=40, help="volumes that each seed draws")
    parser.add_argument("--oracles", default="everything", help="names with commas between them")
    parser.add_argument("--strategies", default=",".join(SHOWN), help="in the same way")
    parser.add_argument("--table", action="store_true", help="run nothing; print what is known")
    quick = {
        "seeds": 1, "rounds": 1, "budget": 1, "part": 3,
        "strategies": "pairwise_dice,random_foreground", "oracles": "everything,places,noisy",
    }  # fmt: skip
    options = parse(parser, quick, arguments)
    scale = QUICK if options.quick else Scale()
    if scale.bodies and not BODIES.is_dir():
        raise SystemExit(f"no CTs painted on bodies: {BODIES} is not there")
    with tempfile.TemporaryDirectory() as temporary:
        fallback = Path(tempfile.gettempdir()) / "atlas8k-campaign-fine-tuning"
        work = Path(temporary) if options.quick else options.work or fallback
        run_all(Place(work, scale), work, options)


def run_all(place: Place, work: Path, options: argparse.Namespace) -> None:
    """Every oracle's strategies; the tables."""
    from atlas8k.campaign.tuned_strategies import Plan, run

    chosen = strategies(options.strategies.split(","))
    plan = Plan(options.seeds, options.rounds, options.budget, options.part)
    begun = time.perf_counter()

    def timed(line: str) -> None:
        print(f"{time.perf_counter() - begun:7.0f} s  {line}", flush=True)

    if not options.table:
        timed("first networks")
        place.start()
    figures: dict[str, float] = {}
    for oracle in options.oracles.split(","):
        of_oracle = replace(plan, oracle=oracle)
        if not options.table:
            run(place, chosen, of_oracle, work / "runs", timed)
        figures |= tables(place, work / "runs", chosen, of_oracle)
    report("campaign_fine_tuning", {k: round(v, 4) for k, v in figures.items()}, options)


def tables(place: Place, folder: Path, chosen: dict[str, Any], plan: Any) -> dict[str, float]:
    """Print what is known under one oracle; the figures."""
    from atlas8k.campaign.strategies import REFERENCE, half_width
    from atlas8k.campaign.tuned_strategies import results
    from atlas8k.cli.campaign_tables import strategy_rows

    found = results(folder, chosen, plan, place.volumes)
    n, key = len(found.seeds), plan.oracle
    if not n:
        print(f"\nOracle: {key}; no seed has all its rounds yet")
        return {}
    each = f"{plan.rounds} rounds of {plan.budget} of {plan.size} volumes"
    print(f"\nOracle: {key}; {each}, {n} seeds\n")
    print_markdown(strategy_rows(found.compared, n))
    figures = {f"seeds_{key}": float(n)}
    for name, one in found.compared.items():
        figures |= {
            f"area_{key}_{name}": one.area,
            f"gain_{key}_{name}": one.gain,
            f"revisions_{key}_{name}": one.revisions,
            f"unseen_{key}_{name}": one.final_unseen,
        }
    print("\nNetworks on CTs of held-out bodies, DSC at the start and after each round\n")
    rows = []
    for name, networks in found.held_out.items():
        for network, dsc in networks.items():
            final = dsc[:, -1] - found.held_out[REFERENCE][network][:, -1]
            rows.append(
                {"strategy": name, "network": network}
                | {f"round {r}": f"{value:.3f}" for r, value in enumerate(dsc.mean(axis=0))}
                | {"less random's": f"{final.mean():+.3f} ± {half_width(final.tolist()):.3f}"}
            )
            figures[f"held_out_{key}_{name}_{network}"] = float(dsc[:, -1].mean())
            figures[f"held_out_start_{network}"] = float(dsc[:, 0].mean())
    print_markdown(rows)
    return figures


if __name__ == "__main__":
    main()
