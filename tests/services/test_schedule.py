"""The simulated schedule of a cluster, and the plan that a command makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.store.kit import scored, sizes
from typer.testing import CliRunner

from atlas8k.cli import app
from atlas8k.core.errors import LedgerError, SettingsError
from atlas8k.services.cluster.plan import read_sizes
from atlas8k.services.cluster.schedule import abdomenatlas_slices, fit, simulate
from atlas8k.store import Ledger, locate

SECONDS = np.random.default_rng(1).lognormal(1.5, 0.4, 2000)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_one_worker_takes_the_sum_and_many_share_it() -> None:
    alone = simulate(SECONDS, 1, rng=rng())
    assert alone.hours == pytest.approx(SECONDS.sum() / 3600)
    assert alone.workers_busy == pytest.approx(1)
    shared = simulate(SECONDS, 64, rng=rng())
    # The largest first: nobody is left with a large one at the end.
    least = SECONDS.sum() / 64
    assert least <= shared.hours * 3600 <= least + np.median(SECONDS)
    assert (shared.limit, shared.repeated) == ("workers", 0)
    assert simulate(np.array([7.0]), 5, rng=rng()).hours == pytest.approx(7 / 3600)


def test_the_writer_is_the_limit_where_it_is() -> None:
    full = simulate(SECONDS, 64, write_s=0.5, rng=rng())
    assert full.limit == "writer"
    assert full.hours * 3600 == pytest.approx(0.5 * len(SECONDS), rel=0.02)
    assert simulate(SECONDS, 2, write_s=0.5, rng=rng()).limit == "workers"


def test_what_dead_workers_were_at_is_predicted_again() -> None:
    calm, rough = (simulate(SECONDS, 8, deaths_an_hour=rate, rng=rng()) for rate in (0, 20.0))
    # A death every 180 s, of volumes of about 5 s, and a minute until it is there again.
    assert rough.repeated == pytest.approx(SECONDS.sum() / 180, rel=0.3)
    assert 1.2 < rough.hours / calm.hours < 1.6


def test_deaths_change_nothing_of_what_limits_and_are_not_endless() -> None:
    few = simulate(np.full(9, 600.0), 64, deaths_an_hour=1.0, rng=rng())
    assert few.repeated
    assert few.limit == "volumes"
    busy = simulate(SECONDS, 8, deaths_an_hour=20.0, rng=rng())
    assert busy.limit == "workers"
    with pytest.raises(SettingsError, match="hardly any worker would live"):
        simulate(np.full(9, 600.0), 1, deaths_an_hour=60.0, rng=rng())


def test_the_sizes_of_a_few_large_volumes_are_in_the_fit() -> None:
    millions = np.full(8448, 100.0)
    millions[[5, 50, 4001]] = 200.0
    found = fit(3 + 0.05 * millions, millions)
    assert (found.seconds, found.seconds_per_million) == pytest.approx((3, 0.05))


def test_storage_and_network_are_the_limit_where_they_are() -> None:
    moved = {"moved_mb": 1e6, "storage_mb_s": 100.0, "network_mb_s": 50.0}
    slow = simulate(SECONDS, 64, **moved, rng=rng())
    assert slow.limit == "network"
    assert slow.hours * 3600 == pytest.approx(1e6 / 50)
    assert simulate(SECONDS, 64, **(moved | {"network_mb_s": 200.0}), rng=rng()).limit == "storage"
    assert simulate(SECONDS, 1, **(moved | {"network_mb_s": 1e4}), rng=rng()).limit == "storage"
    assert simulate(SECONDS, 1, **(moved | dict.fromkeys(moved, 1e4)), rng=rng()).limit == "workers"


def test_a_cost_is_fitted_by_size_and_odd_volumes_do_not_move_it() -> None:
    millions = np.linspace(20, 200, 40)
    took = 3 + 0.05 * millions
    found = fit(took, millions)
    assert (found.seconds, found.seconds_per_million) == pytest.approx((3, 0.05))
    assert found.error == pytest.approx(0, abs=1e-9)
    took[::5] *= 10  # a machine that had other work
    odd = fit(took, millions)
    assert (odd.seconds, odd.seconds_per_million) == pytest.approx((3, 0.05), rel=0.15)
    # As far from the line as those measured, and no line under 0.
    drawn = odd.draw(np.full(20_000, 100.0), rng())
    assert drawn.mean() == pytest.approx(8 * odd.ratios.mean(), rel=0.1)
    steep = fit(0.1 * (millions - 15), millions)
    assert steep.seconds == 0
    assert steep.draw(np.array([1.0]), rng())[0] > 0


def test_where_sizes_tell_nothing_all_cost_the_same() -> None:
    same = fit([1.0, 3.0], None)
    assert set(same.draw(np.zeros(1000), rng())) == {1.0, 3.0}
    # Of one size: what a larger one takes cannot be told, and is taken in proportion.
    alike = fit([2.0, 2.0, 2.2], [100.0, 101.0, 102.0])
    assert alike.seconds == 0
    assert not alike.by_size
    assert alike.seconds_per_million == pytest.approx(0.02, rel=0.02)


def test_cts_as_large_as_the_papers() -> None:
    slices = abdomenatlas_slices(20_000, rng())
    assert slices.mean() == pytest.approx(379, rel=0.03)
    assert (slices.min(), slices.max()) == (40, 1000)


def measured(
    folder: Path, *, gpu: bool = False, sizes_known: bool = True, count: int = 30
) -> list[str]:
    """A command on studies whose volumes took 2 s and .1 s for each of 10 to 39 million voxels."""
    ledger = Ledger(locate(str(folder)))
    scored(ledger, {f"v{number:02d}": 1.0 for number in range(count)})
    for number in range(count):
        noted = {"voxels": (10 + number) * 10**6, "on_gpu": gpu} if sizes_known else {}
        ledger.record_score(
            f"v{number:02d}", "one", sizes(1), seconds=2 + 0.1 * (10 + number), explanation=noted,
            peak_mb={"memory": 3000.0, **({"gpu": 5000.0} if gpu else {})},
        )  # fmt: skip
    with ledger.write() as tx:
        tx.run("UPDATE volume SET fingerprint = (10 + id - 1) * 2000000 || '-5'")
    ledger.close()
    label = folder / "labels" / "original" / "v00.nii.gz"
    label.parent.mkdir(parents=True)
    with label.open("wb") as file:
        file.truncate(735_000_000 // 2)  # takes no room; its version is kept beside it
    for other in ("labels/original/gone.nii.gz", "labels/final/v00.nii.gz"):  # not of this scoring
        (folder / other).parent.mkdir(parents=True, exist_ok=True)
        with (folder / other).open("wb") as file:
            file.truncate(10**10)
    return ["plan", "--studies", str(folder)]


def asked(command: list[str], *more: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*command, *more, "--json"])
    assert result.exit_code == 0, (result.output, result.exception)
    return dict(json.loads(result.output))


def test_a_plan_goes_by_the_size_of_the_cts(tmp_path: Path) -> None:
    command = measured(tmp_path)
    own = asked(command, "--workers", "1")
    assert own["fit"] == {
        "seconds": 2, "seconds_per_million_voxels": 0.1, "median_error": 0
    }  # fmt: skip
    assert own["seconds_a_volume"] == pytest.approx(4.45, rel=0.1)
    listed = tmp_path / "sizes.txt"
    listed.write_text("512 512 400\n100000000\n\n1000x1000x80\n", encoding="utf-8")
    one, two = (asked(command, "--sizes", str(listed), "--workers", n) for n in ("1", "3"))
    whole = [2 + 0.1 * millions for millions in (512 * 512 * 400 / 1e6, 100, 80)]
    assert one["volumes"] == 3
    assert one["schedules"][0]["hours"] * 3600 == pytest.approx(sum(whole))
    assert two["schedules"][0]["hours"] * 3600 == pytest.approx(max(whole))
    # A voxel takes 2 bytes in a file of those scored, and 1 in labels.
    million = (512 * 512 * 400 + 180e6) / 1e6
    assert one["read_gb"] == pytest.approx(million * 2 / 1000, rel=1e-3)
    assert one["label_disk_gb"] == pytest.approx(million / 1000, rel=1e-3)
    assert "100% of the collection is larger" in one["basis"]
    papers = asked(command, "--sizes", "abdomenatlas", "--volumes", "8448")
    assert papers["seconds_a_volume"] == pytest.approx(2 + 0.1 * 379 * 0.512**2, rel=0.03)
    assert papers["million_voxels_a_volume"] == pytest.approx(379 * 0.512**2, rel=0.03)


def test_a_plan_says_in_words_what_limits_it(tmp_path: Path) -> None:
    command = [*measured(tmp_path), "--volumes", "900", "--workers", "8"]
    assert "limited by the workers: more of them are quicker" in asked(command)["bottleneck"]
    full = asked(command, "--write-seconds", "1")
    assert "limited by the one writer" in full["bottleneck"]
    assert (
        "until 4 of them" in asked(command, "--write-seconds", "1", "--workers", "2")["bottleneck"]
    )
    slow = asked(command, "--storage-mb-s", "10")
    assert "limited by the storage, which moves 10 MB/s" in slow["bottleneck"]
    assert "24.0 GB of memory (3.0 for each worker)" in slow["bottleneck"]
    assert "10.0 MB/s of storage" in slow["bottleneck"]
    assert "limited by the network" in asked(command, "--network-mb-s", "10")["bottleneck"]
    few = asked(command, "--volumes", "3")
    assert "limited by the largest volumes" in few["bottleneck"]


def test_a_plan_for_gpus_rests_on_gpus_or_on_what_is_stated(tmp_path: Path) -> None:
    command = measured(tmp_path)
    refused = CliRunner().invoke(app, [*command, "--gpus", "8"])
    assert isinstance(refused.exception, LedgerError)
    assert "0 volumes were scored on a GPU" in str(refused.exception)
    stated = asked(command, "--gpus", "1,8", "--seconds-per-million-voxels", "0.01")
    assert [one["workers"] for one in stated["schedules"]] == [1, 8]
    assert stated["seconds_a_volume"] == pytest.approx(0.245, rel=0.1)
    assert stated["basis"] == "as stated: 0.01 s for each million voxels"
    assert CliRunner().invoke(app, [*command, "--gpus", "8", "--workers", "1"]).exit_code == 2


def test_a_plan_for_gpus_says_what_each_needs(tmp_path: Path) -> None:
    command = measured(tmp_path, gpu=True)
    found = asked(command, "--gpus", "8")
    assert "5.0 GB of each GPU's own" in found["bottleneck"]
    assert "24.0 GB of memory (3.0 for each GPU)" in found["bottleneck"]
    other = CliRunner().invoke(app, command)
    assert isinstance(other.exception, LedgerError)
    assert "ask for a plan with --gpus" in str(other.exception)
    shown = CliRunner().invoke(app, [*command, "--gpus", "2"]).output
    assert "s each on one GPU" in shown


def test_nothing_needs_to_be_scored_where_cost_and_sizes_are_stated(tmp_path: Path) -> None:
    Ledger(locate(str(tmp_path))).close()
    command = ["plan", "--studies", str(tmp_path), "--gpus", "8", "--volumes", "8448"]
    stated = (*command, "--seconds-per-million-voxels", "0.1")
    found = asked([*stated, "--sizes", "abdomenatlas"])
    assert found["schedules"][0]["hours"] == pytest.approx(8448 * 9.94 / 8 / 3600, rel=0.03)
    assert found["read_gb"] is None
    for one, words in (command, "no volume has been scored"), (list(stated), "by --sizes"):
        refused = CliRunner().invoke(app, one)
        assert words in str(refused.exception)


@pytest.mark.parametrize("text", ["", "512 512", "0", "-5", "512 512 many"])
def test_a_file_of_sizes_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sizes.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match="--sizes"):
        read_sizes(path)
    with pytest.raises(SettingsError, match="abdomenatlas, or a file"):
        read_sizes(tmp_path / "none")


def test_what_earlier_releases_scored_costs_the_same_whatever_its_size(tmp_path: Path) -> None:
    command = measured(tmp_path, sizes_known=False)
    found = asked(command, "--volumes", "9000", "--workers", "1")
    assert found["seconds_a_volume"] == pytest.approx(4.45, rel=0.02)
    assert "each taken to cost the same" in found["basis"]
    assert found["read_gb"] == pytest.approx(9000 * 0.049, rel=0.01)
    refused = CliRunner().invoke(app, [*command, "--sizes", "abdomenatlas"])
    assert "other sizes say nothing" in str(refused.exception)


def test_memory_is_kept_as_the_most_a_process_took(tmp_path: Path) -> None:
    ledger = Ledger(locate(str(tmp_path)))
    scored(ledger, {f"v{number:02d}": 1.0 + number for number in range(3)})
    assert ledger.peak_memory("one") == {}
    for name, peak, kept in (
        ("v00", {"memory": 3000.0}, {"memory": 3000}),
        ("v01", {"memory": 3100.0}, {"memory": 3000}),  # within a tenth it is the same
        ("v02", {"memory": 1e3, "gpu": 5e3}, {"memory": 3000, "gpu": 5000}),
    ):
        ledger.record_score(name, "one", sizes(1), seconds=10, peak_mb=peak)
        assert ledger.peak_memory("one") == kept
    ledger.close()


def test_a_plan_wants_volumes_that_are_like_the_rest(tmp_path: Path) -> None:
    ledger = Ledger(locate(str(tmp_path)))
    scored(ledger, {"a": 1.0})
    ledger.close()
    found = CliRunner().invoke(app, ["plan", "--studies", str(tmp_path)])
    assert isinstance(found.exception, LedgerError)
    assert "20 or more" in str(found.exception)
    assert CliRunner().invoke(app, ["plan", "--workers", "0"]).exit_code == 2
