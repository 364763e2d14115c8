"""Files altered at random, and what became of each: read as meant, refused, marked, or silent.

An alteration is a function of a draft of a file and a random generator. What may become of it
stands beside it, written before anything was run: ``same``, ``refused``, or the kinds of remarks
that name it. ``OTHER`` is for alterations that leave a consistent file of another meaning: nothing
but anatomy can tell, so that they are counted, not forbidden.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from abdomen_phantom import generate
from atlas8k.content import inspect_content
from atlas8k.core.errors import Atlas8kError
from atlas8k.core.grid import Grid, Volume
from atlas8k.labels.plausibility import find_impossible

FILES = 200
SEED = 8000
SAME, REFUSED, OTHER = "same", "refused", "other meaning"
SILENT, CRASHED = "SILENT", "CRASHED"
TURNS = list(product(permutations(range(3)), product((1, -1), repeat=3)))
"""The 48 ways to store one volume: order of the axes, direction of each."""

Rng = np.random.Generator
Change = Callable[[Any, Rng], object]


@dataclass(frozen=True)
class Alteration:
    """One way to alter a file of a kind, and what may become of it."""

    name: str
    expected: frozenset[str]
    change: Change


@dataclass
class Kind:
    """A kind of input with its alterations, in the order in which they are written down."""

    name: str
    alterations: list[Alteration] = field(default_factory=list)

    def altered(self, *expected: str) -> Callable[[Change], Change]:
        """Write down an alteration and what may become of a file so altered."""

        def note(change: Change) -> Change:
            self.alterations.append(Alteration(change.__name__, frozenset(expected), change))
            return change

        return note


@dataclass(frozen=True)
class Read:
    """What was made of a file: as meant or not, and the kinds of what was said of it."""

    same: bool
    marks: frozenset[str]


@functools.cache
def patient() -> tuple[Volume, Volume]:
    """CT (float32, whole HU) and label of a phantom at 8 mm; nothing is odd about them."""
    made = generate(3, grid_spacing_mm=8.0)
    ct = Volume(made.ct.array.astype(np.float32), made.ct.grid)
    assert len({*ct.grid.shape}) == 3  # axes that are mixed up do not fit by chance
    assert inspect_content(ct) == ()
    assert find_impossible(made.label.array, made.label.grid) == []
    return ct, made.label


def turned(volume: Volume, rng: Rng, tilt: bool = True) -> Volume:
    """The same voxels stored along other axes, one file in three of a tilted patient."""
    axes, signs = TURNS[rng.integers(len(TURNS))]
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1
    for new, (old, sign) in enumerate(zip(axes, signs, strict=True)):
        matrix[old, new] = sign
        if sign < 0:
            matrix[old, 3] = volume.grid.shape[old] - 1
    array = volume.array.transpose(axes)[tuple(slice(None, None, sign) for sign in signs)]
    affine = volume.grid.affine @ matrix
    if tilt and rng.random() < 1 / 3:
        affine = rotation(rng) @ affine
    n = array.shape
    return Volume(np.asfortranarray(array), Grid((n[0], n[1], n[2]), affine))


def rotation(rng: Rng, degrees: float = 8.0) -> npt.NDArray[np.float64]:
    """Rotation about z, then x, by up to so many degrees each."""
    a, b = np.deg2rad(rng.uniform(-degrees, degrees, 2))
    about_z = [[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]
    about_x = [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    out = np.eye(4)
    out[:3, :3] = np.array(about_x) @ np.array(about_z)
    return out


def as_meant(read: Volume, truth: Volume, value: float = 0.01, voxels: float = 0.1) -> bool:
    """Whether a volume has the truth's values at the truth's places in mm, all of them.

    Parameters
    ----------
    value
        What values may differ by.
    voxels
        What places may differ by, voxels of the truth.
    """
    if read.array.size != truth.array.size:
        return False
    index = np.indices(read.grid.shape).reshape(3, -1)
    mm = read.grid.affine @ np.vstack([index, np.ones(index.shape[1])])
    exact = np.linalg.solve(truth.grid.affine, mm)[:3]
    near = np.rint(exact).astype(np.int64)
    if np.abs(exact - near).max() > voxels:
        return False
    if near.min() < 0 or (near.max(axis=1) >= truth.grid.shape).any():
        return False
    meant = truth.array[tuple(near)].astype(np.float64)
    return bool(np.abs(read.array.reshape(-1).astype(np.float64) - meant).max() <= value)


def mirrored(grid: Grid, axis: int) -> npt.NDArray[np.float64]:
    """Affine of the same extent in which one world axis (0: left and right) runs backwards."""
    ends = grid.affine @ np.array([[0, 0, 0, 1], [*(np.array(grid.shape) - 1), 1]]).T
    flip = np.eye(4)
    flip[axis, axis] = -1
    flip[axis, 3] = ends[axis].sum()
    return flip @ grid.affine


def run(
    kind: Kind,
    make: Callable[[Rng], Any],
    read: Callable[[Any, Path], Read],
    folder: Path,
) -> None:
    """Alter, write and read the files of a kind; tell in a table, and fail where one is wrong.

    Parameters
    ----------
    make
        A draft of a good file; it has ``write(folder)``, which gives the path.
    read
        Reads it as the product does.

    Raises
    ------
    AssertionError
        A file was read wrong without a word, or something else became of it than was expected.
    """
    table: dict[str, Counter[str]] = {one.name: Counter() for one in kind.alterations}
    wrong = []
    for number in range(FILES):
        alteration = kind.alterations[number % len(kind.alterations)]
        rng = np.random.default_rng([SEED, number])
        draft = make(rng)
        alteration.change(draft, rng)
        place = folder / str(number)
        place.mkdir()
        outcome, why = _outcome(alteration, draft, read, place)
        table[alteration.name][outcome] += 1
        expected = alteration.expected
        if outcome == CRASHED or not (OTHER in expected or {*outcome.split("+")} & expected):
            wrong.append(f"file {number}, {alteration.name}: {outcome} ({why})")
    sys.stdout.write(_shown(kind, table))
    assert not wrong, "\n".join(wrong)


def _outcome(
    alteration: Alteration, draft: Any, read: Callable[[Any, Path], Read], folder: Path
) -> tuple[str, str]:
    try:
        found = read(draft, draft.write(folder))
    except Atlas8kError as err:
        return REFUSED, str(err)
    except Exception as err:  # that is what is looked for
        return CRASHED, repr(err)
    said = ", ".join(sorted(found.marks))
    if found.same:
        return SAME, said
    named = found.marks if OTHER in alteration.expected else found.marks & alteration.expected
    return ("+".join(sorted(named)), said) if named else (SILENT, said or "nothing said")


def _shown(kind: Kind, table: dict[str, Counter[str]]) -> str:
    lines = [f"\n{kind.name}: {FILES} files\n"]
    caught = all_ = 0
    for one in kind.alterations:
        counts = table[one.name]
        said = ", ".join(f"{name} {n}" for name, n in counts.most_common())
        if OTHER in one.expected:
            all_ += counts.total()
            caught += counts.total() - counts[SILENT] - counts[SAME]
            said += "   (other meaning)"
        lines.append(f"  {one.name:36} {said}\n")
    if all_:
        lines.append(f"  of {all_} of another meaning {caught} were caught ({caught / all_:.0%})\n")
    return "".join(lines)
