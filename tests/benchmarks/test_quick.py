"""Every benchmark in its quick form, as a process of its own: it runs, and says what it measures.

``pytest -m benchmarks`` runs these alone. The figures are those of tiny inputs: only whether
they are there is looked at.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from atlas8k.services import viewer

pytestmark = [pytest.mark.benchmarks, pytest.mark.slow]
FOLDER = Path(__file__).parent
FIGURES = {
    "attention_quality": ("rho_salient", "rho_eq4", "rho_epistemic", "recall5_eq4", "sensitivity",
                          "rho_pairwise_dice", "rho_epistemic_sum", "rho_random_foreground",
                          "recall5_stratified", "rho_expected_error", "sensitivity_05",
                          "ml_a_case", "dice_error", "dice_inside"),
    "attention_speed": ("speedup_end_to_end", "speedup_engine", "peak_extra_gb"),
    "campaign_fine_tuning": ("seeds_everything", "gain_everything_pairwise_dice",
                             "revisions_noisy_random_foreground", "unseen_places_pairwise_dice",
                             "held_out_everything_pairwise_dice_ensemble"),
    "campaign_strategies": ("n", "area_everything_salient", "gain_places_stratified",
                            "revisions_noisy_pairwise_dice"),
    "checks_quality": ("clean", "flagged", "sensitivity_broken_aorta", "precision_aorta",
                       "least_precision_kidney_left"),
    "cluster": ("process_s", "cluster_s", "overhead", "writes_an_hour", "workers_until_writer",
                "hours_1", "hours_8", "hours_64", "planned_s", "run_s"),
    "contrast_phase": ("right_pre", "right_arterial", "right_portal", "right_delayed", "phantoms",
                       "share_right"),
    "duplicates": ("copies", "of_copies", "same_patient", "wrong_pairs", "seconds_full_size"),
    "embedded_networks": ("embedded_mb", "dsc_unet", "dsc_ensemble", "dsc_ensemble_shifted"),
    "endurance": ("bytes_a_cycle", "descriptors_left", "threads_left", "files_left",
                  "files_after_end"),
    "evaluation_scale": ("seconds_120", "peak_gb_120", "time_growth", "memory_growth"),
    "export_scale": ("volumes", "kept", "grown_mb", "files"),
    "extend_structures": ("rounds", "large", "large_above_half", "nine_before", "nine_after",
                          "nine_least_change", "unknown_voxels", "minutes_trained",
                          "exported_revised", "exported_of_unknown"),
    "fine_tuning": ("dsc_before", "attention_minus_random", "random_minus_same_sd"),
    "fine_tuning_partial": ("change_unlabeled", "change_unlabeled_as_background"),
    "fit_quality": ("cases", "voxels", "in_errors"),
    "large_ct": ("slices_s", "thinned_s", "block_s", "saved_s", "browser_thinned_mb",
                 "browser_block_mb"),
    "fit_strokes": ("voxels", "loss", "loss_alone"),
    "label_files": ("found_and_mended_s", "cp_a_check_s", "backup_s", "restore_s", "altered"),
    "ledger_scale": ("next_sample_p99_ms_400", "record_score_growth",
                     "sorting_next_sample_p50_ms_200"),
    "nsd_speed": ("speedup", "peak_gb", "max_difference"),
    "prediction_speed": ("speedup_cpu", "speedup_cpu_prediction_only", "seconds", "cold_seconds",
                         "dsc_to_reference_min", "peak_extra_1000_gb"),
    "queue_scale": ("next_sample_p99_ms_40", "slicer_next_sample_p99_ms_40", "save_label_p99_ms_40",
                    "stock_next_sample_p99_ms_40", "record_score_p50_ms_40", "failed_40",
                    "grown_mb_40"),
    "real_bodies": ("dsc_phantoms", "dsc_phantoms_unet"),
    "save_label": ("nifti_median_s", "seg_nrrd_with_public_max_s", "info_busy_p99_ms",
                   "stock_cropped_median_s"),
    "server_load": ("next_sample_p99_ms", "save_label_p99_ms", "inference_count", "failed",
                    "scores_recorded", "stock_next_sample_p99_ms"),
    "structures_cost": ("gb_9", "gb_30", "growth_gb", "growth_seconds", "nine_alike"),
    "strokes": ("gone_after_1", "gone_after_2", "gone_after_10", "worse", "ms_p50", "ms_p99",
                "graphcut_gone_after_1", "graphcut_worse", "brush_gone_after_1", "alone_worse"),
    "training_memory": ("peak_gb", "peak_gb_served", "peak_gb_fine", "peak_gb_gate"),
}  # fmt: skip
"""Some of the figures of each, among them those that a README states."""
EXACT = {
    "duplicates": {"copies": 5, "of_copies": 5, "same_patient": 1, "wrong_pairs": 0},
    # Nine masks, a combined map and the CT of each; manifest, table, left out, attribution.
    "export_scale": {"volumes": 60, "kept": 30, "files": 60 * 11 + 4},
    # 22 of 25 were submitted; nobody said anything of the three that no map has.
    "extend_structures": {"exported_revised": 22, "exported_of_unknown": 0, "unknown_voxels": 0},
    "label_files": {"left": 0},
    # Pools that are filled one by one are none; one of each a cycle would be a hundred.
    "endurance": {
        "broken": 25,
        "descriptors_left": pytest.approx(0, abs=3),
        "threads_left": pytest.approx(0, abs=3),
        "files_left": 0,
        "files_after_end": 0,
    },
    "queue_scale": {"failed_40": 0.0},
    "server_load": {"failed": 0},
    "nsd_speed": {"max_difference": pytest.approx(0, abs=1e-9)},
    "prediction_speed": {"dsc_to_reference_min": pytest.approx(1, abs=0.05)},
}
"""What holds on tiny inputs too."""
NEEDS = {"large_ct": bool(shutil.which("chromium")) and viewer.NIIVUE.is_file()}
"""What is not a Python package."""
LIMIT_S = 900


def test_every_benchmark_is_here() -> None:
    there = {path.stem for path in FOLDER.glob("*.py") if not path.name.startswith(("_", "test_"))}
    assert there == set(FIGURES)


@pytest.mark.parametrize("name", FIGURES)
def test_the_quick_form_runs(name: str, tmp_path: Path) -> None:
    if not NEEDS.get(name, True):
        pytest.skip("not installed: chromium, or NiiVue (atlas8k viewer install)")
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), "--quick"],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-5000:]}"
    said = json.loads(done.stdout.splitlines()[-1])
    assert (said["benchmark"], said["quick"]) == (name, True)
    figures = said["figures"]
    assert [figure for figure in FIGURES[name] if figure not in figures] == []
    assert {k: figures[k] for k in EXACT.get(name, {})} == EXACT.get(name, {})
