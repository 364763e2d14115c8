"""Copies of a CT, other phases of one patient and other people are told apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.benchmarks.duplicates import KINDS, altered
from tests.content.kit import BODIES

from abdomen_phantom import generate
from abdomen_phantom.bodies import paint_body, read_bodies
from abdomen_phantom.setting import WIDE
from atlas8k.content.likeness import Fingerprint, compare, fingerprint
from atlas8k.core.grid import Grid, Volume

MM = 4.0


@pytest.fixture(scope="module")
def ct() -> Volume:
    return generate(3, WIDE, grid_spacing_mm=MM).ct


@pytest.mark.parametrize("kind", KINDS)
def test_an_altered_copy_is_a_copy(ct: Volume, kind: str):
    found = compare(fingerprint(ct), fingerprint(altered(ct, kind, np.random.default_rng(0))))
    assert found is not None
    assert found.kind == "copy"


def test_a_copy_that_says_it_lies_elsewhere(ct: Volume):
    affine = ct.grid.affine.copy()
    affine[:3, 3] += (41.0, -333.0, 207.3)
    found = compare(fingerprint(ct), fingerprint(Volume(ct.array, Grid(ct.grid.shape, affine))))
    assert found is not None
    assert found.kind == "copy"


def test_another_phase_is_the_patient_and_no_copy(ct: Volume):
    own = generate(3, WIDE, grid_spacing_mm=MM).case.phase
    for phase in {"pre", "arterial", "portal", "delayed"} - {own}:
        other = generate(3, replace(WIDE, phases={phase: 1.0}), grid_spacing_mm=MM).ct
        found = compare(fingerprint(ct), fingerprint(other))
        assert found is not None
        assert found.kind == "same_patient", phase


def test_other_people_and_twins_of_one_body_are_not_alike(ct: Volume):
    assert compare(fingerprint(ct), fingerprint(generate(4, WIDE, grid_spacing_mm=MM).ct)) is None
    if not (BODIES / "s0004_structures.nii.gz").is_file():
        pytest.skip(f"{BODIES} is not there")
    bodies = read_bodies(BODIES, ["s0004"])
    one, two = (
        fingerprint(paint_body(bodies, n, grid_spacing_mm=MM, phase="portal").ct) for n in (0, 1)
    )
    assert compare(one, two) is None


def test_a_narrow_ct_is_a_copy_of_the_whole_one(ct: Volume):
    """Half of its width, as of a field of view that ends at the spine."""
    x, y, z = ct.grid.shape
    box = (slice(0, x // 2 + 12), slice(0, y), slice(0, z))
    narrow = fingerprint(Volume(ct.array[box], ct.grid.crop(box)))
    for one, two in ((narrow, narrow), (narrow, fingerprint(ct))):
        found = compare(one, two)
        assert found is not None
        assert found.kind == "copy"


def test_a_fingerprint_is_kept_in_few_bytes(ct: Volume):
    made = fingerprint(ct)
    packed = made.to_bytes()
    assert len(packed) < 60_000
    assert np.array_equal(Fingerprint.from_bytes(packed).cells, made.cells)


def test_a_ct_that_is_too_low_is_like_nothing(ct: Volume):
    low = Volume(ct.array[..., :6], Grid((*ct.grid.shape[:2], 6), ct.grid.affine))
    assert compare(fingerprint(low), fingerprint(low)) is None
