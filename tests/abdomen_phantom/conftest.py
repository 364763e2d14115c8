"""Phantoms that several tests look at, made once."""

from itertools import islice

import pytest

from abdomen_phantom import generate


@pytest.fixture(scope="session")
def patients():
    """Sixteen phantoms at 4 mm whose field of view holds all organs."""
    made = (generate(seed, grid_spacing_mm=4.0) for seed in range(1000, 1030))
    whole = (p for p in made if "cut_off_field_of_view" not in p.case.hard_cases)
    return list(islice(whole, 16))


@pytest.fixture(scope="session")
def scans():
    """Phantoms as their scanner wrote them; the first seeds with small files."""
    return [generate(seed) for seed in (2, 3, 7, 10, 11)]
