"""Drawing: shares, seeds, and components that do not disturb one another."""

from dataclasses import replace

import numpy as np
import pytest

from abdomen_phantom import SHIFTED, STANDARD
from abdomen_phantom.contrast import PHASES, draw_densities, draw_phase
from abdomen_phantom.patient import draw_hard_cases
from abdomen_phantom.setting import PHASE_MIX, Dice


def test_phase_mix_is_the_papers():
    n = 2000
    drawn = [draw_phase(Dice(seed, STANDARD), STANDARD) for seed in range(n)]
    for phase, share in PHASE_MIX.items():
        # Four standard errors of a binomial share.
        tolerance = 4 * (share * (1 - share) / n) ** 0.5
        assert drawn.count(phase) / n == pytest.approx(share, abs=tolerance)


def test_hard_cases_occur_as_often_as_the_setting_says():
    n = 1000
    drawn = [draw_hard_cases(Dice(seed, STANDARD), STANDARD) for seed in range(n)]
    for name, share in STANDARD.hard_cases.items():
        tolerance = 4 * (share * (1 - share) / n) ** 0.5
        assert sum(name in cases for cases in drawn) / n == pytest.approx(share, abs=tolerance)


def test_the_sample_set_holds_every_hard_case_and_the_three_common_phases():
    dice = [Dice(seed, STANDARD) for seed in range(12)]
    assert set().union(*(draw_hard_cases(d, STANDARD) for d in dice)) == set(STANDARD.hard_cases)
    assert {draw_phase(d, STANDARD) for d in dice} >= {"portal", "arterial", "pre"}


def test_components_settings_and_versions_have_their_own_numbers():
    def first(dice, name):
        return dice(name).random()

    assert first(Dice(1, STANDARD), "liver") == first(Dice(1, STANDARD), "liver")
    others = [
        first(Dice(1, STANDARD), "spleen"),
        first(Dice(2, STANDARD), "liver"),
        first(Dice(1, SHIFTED), "liver"),
        first(Dice(1, replace(STANDARD, version=99)), "liver"),
    ]
    assert len({first(Dice(1, STANDARD), "liver"), *others}) == 5


def test_negative_seed_is_refused():
    with pytest.raises(ValueError, match="0 or more"):
        Dice(-1, STANDARD)


def test_densities_follow_the_phase():
    mean = {
        phase: {
            tissue: np.mean(
                [draw_densities(Dice(s, STANDARD), STANDARD, phase)[tissue] for s in range(100)]
            )
            for tissue in ("aorta", "liver", "postcava", "renal_cortex", "gall_bladder")
        }
        for phase in PHASES
    }
    aorta = [mean[phase]["aorta"] for phase in ("arterial", "portal", "delayed", "pre")]
    assert aorta == sorted(aorta, reverse=True)
    assert max(PHASES, key=lambda p: mean[p]["liver"]) == "portal"
    assert mean["arterial"]["aorta"] - mean["arterial"]["postcava"] > 100
    assert abs(mean["pre"]["aorta"] - mean["pre"]["postcava"]) < 10
    assert all(mean[p]["gall_bladder"] < 25 for p in PHASES)


def test_shifted_ranges_lie_apart_where_they_say_other():
    assert SHIFTED.noise_hu[0] >= STANDARD.noise_hu[1]
    assert SHIFTED.kernel_mm[1] < STANDARD.kernel_mm[0]
    assert SHIFTED.in_plane_mm[1] <= STANDARD.in_plane_mm[0]
    assert SHIFTED.edge_gain[0] > STANDARD.edge_gain[1]
    assert SHIFTED.warp_mm > STANDARD.warp_mm
