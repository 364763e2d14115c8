"""The mix of difficulty: fixed, spread, and apart from every other setting."""

from __future__ import annotations

import numpy as np
import pytest
from tests.benchmarks._mix import CUT_OFF, MIX, SHARES, between, mix_setting

from abdomen_phantom import SHIFTED, STANDARD, exact_label, generate
from abdomen_phantom.generate import PhantomPainter
from atlas8k.core.volume import Grid


def test_the_ends_are_the_two_settings_but_for_name_and_field_of_view():
    for share, end in ((0.0, STANDARD), (1.0, SHIFTED)):
        setting = between(share)
        for field in ("noise_hu", "kernel_mm", "thickness_mm", "roll_deg", "size_spread"):
            assert getattr(setting, field) == pytest.approx(getattr(end, field))
        assert setting.hard_cases["cut_off_field_of_view"] == CUT_OFF


def test_half_way_is_the_mean():
    setting = between(0.5)
    assert setting.noise_hu == pytest.approx((12.5, 23.0))
    assert setting.roll_deg == pytest.approx(5.5)


def test_no_name_is_that_of_a_setting_networks_are_trained_on():
    names = {setting.name for setting in MIX}
    assert len(names) == len(set(SHARES))
    assert not names & {STANDARD.name, SHIFTED.name}


def test_two_in_five_are_easy_and_the_mix_repeats():
    assert SHARES.count(0.0) / len(SHARES) == 0.4
    assert mix_setting(3) == mix_setting(3 + len(SHARES))
    assert mix_setting(4) == between(SHARES[4])


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share):
    with pytest.raises(ValueError, match="lies in"):
        between(share)


def test_the_exact_label_is_the_phantoms_own_on_its_grid():
    phantom = generate(3, between(0.25), grid_spacing_mm=8.0)
    label = exact_label(3, between(0.25), phantom.label.grid)
    np.testing.assert_array_equal(label, phantom.label.array)
    box = (slice(10, 30), slice(8, 20), slice(5, 25))
    part = exact_label(3, between(0.25), phantom.label.grid.crop(box))
    np.testing.assert_array_equal(part, phantom.label.array[box])


def test_a_turned_grid_is_refused():
    affine = np.diag([-4.0, 4.0, 4.0, 1.0])
    with pytest.raises(ValueError, match="RAS"):
        exact_label(0, STANDARD, Grid((4, 4, 4), affine))


def test_the_slice_thickness_is_that_of_the_ct_as_written():
    phantom = generate(5, between(1.0))
    axis = next(i for i, code in enumerate(phantom.ct.grid.orientation) if code in "SI")
    scan = PhantomPainter(5, between(1.0), coarse=False).scan
    assert scan.thickness_mm == pytest.approx(phantom.ct.grid.spacing[axis])
