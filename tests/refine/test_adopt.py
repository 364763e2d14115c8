"""What another program proposes: taken over about the strokes, and nowhere else."""

from __future__ import annotations

import numpy as np

from atlas8k.refine.adopt import adopt
from atlas8k.refine.strokes import Strokes

ORGAN, OTHER = 5, 2
NONE = np.zeros((0, 3), dtype=int)


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A label with two organs, and a proposal that moves one and makes an island of it."""
    label = np.zeros((30, 20, 20), np.uint8)
    label[5:12, 5:15, 5:15] = ORGAN
    label[18:22, 5:15, 5:15] = OTHER
    proposed = np.zeros(label.shape, bool)
    proposed[8:20, 5:15, 5:15] = True  # lacks 5 to 8, goes on to 20, into the other
    proposed[26:28, 2:4, 2:4] = True
    return label, proposed


def test_only_what_hangs_together_with_a_contradicting_stroke_changes() -> None:
    label, proposed = scene()
    found = adopt(label, proposed, ORGAN, Strokes(np.array([[14, 10, 10]]), NONE))
    expected = label.copy()
    expected[12:18, 5:15, 5:15] = ORGAN
    assert np.array_equal(found.label, expected)
    assert (found.added, found.removed) == (600, 0)


def test_what_is_too_much_goes_where_a_stroke_says_so() -> None:
    label, proposed = scene()
    found = adopt(label, proposed, ORGAN, Strokes(NONE, np.array([[6, 10, 10]])))
    expected = label.copy()
    expected[5:8, 5:15, 5:15] = 0
    assert np.array_equal(found.label, expected)
    assert (found.added, found.removed) == (0, 300)


def test_another_organ_gives_way_to_a_stroke_through_it() -> None:
    label, proposed = scene()
    stroke = np.array([[14, 10, 10], [18, 10, 10]])
    found = adopt(label, proposed, ORGAN, Strokes(stroke, NONE))
    assert (found.label[18:20, 5:15, 5:15] == ORGAN).all()
    assert (found.label[20:22, 5:15, 5:15] == OTHER).all()


def test_a_stroke_binds_against_the_proposal() -> None:
    label, proposed = scene()
    proposed[...] = False
    strokes = Strokes(np.array([[2, 10, 10], [8, 10, 10]]), NONE)
    found = adopt(label, proposed, ORGAN, strokes)
    assert found.label[2, 10, 10] == ORGAN
    assert (found.added, found.removed) == (1, 0), "nobody asked to take the organ away"


def test_strokes_that_the_label_agrees_with_ask_for_nothing() -> None:
    label, proposed = scene()
    found = adopt(label, proposed, ORGAN, Strokes(np.array([[8, 10, 10]]), np.array([[0, 0, 0]])))
    assert np.array_equal(found.label, label)
    assert (found.added, found.removed) == (0, 0)
