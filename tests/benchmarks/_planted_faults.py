"""Label maps of phantoms that are right though rare, and faults planted in right ones.

Everything is a function of arrays ``(X, Y, Z)`` uint8 of organ ids, axes R, A, S, voxels of
:data:`MM`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.labels.checks import TOUCHING

MM = 3.0
ML = MM**3 / 1000
LEFT, RIGHT = ORGAN_IDS["kidney_left"], ORGAN_IDS["kidney_right"]
AORTA, POSTCAVA = ORGAN_IDS["aorta"], ORGAN_IDS["postcava"]
Label = np.ndarray
Rng = np.random.Generator


def separated(label: Label) -> Label:
    """The largest piece of each organ, a voxel away from organs that it never meets.

    Phantoms are packed closer than people: in half of them the liver lies against the aorta, which
    it does in none of six real bodies.
    """
    out = label.copy()
    for name, other, _ in TOUCHING:
        beside = ndimage.binary_dilation(out == ORGAN_IDS[other], np.ones((3, 3, 3)))
        out[beside & (out == ORGAN_IDS[name])] = 0
    for value in ORGAN_IDS.values():
        parts, count = ndimage.label(out == value, np.ones((3, 3, 3)))
        if count > 1:
            out[(parts > 0) & (parts != np.bincount(parts.ravel())[1:].argmax() + 1)] = 0
    return out


# Right, though rare


def without(*organs: str) -> Callable[[Label, Rng], Label]:
    """One of these organs was taken out."""

    def change(label: Label, rng: Rng) -> Label:
        return np.where(label == ORGAN_IDS[str(rng.choice(organs))], 0, label).astype(np.uint8)

    return change


def horseshoe(label: Label, _: Rng) -> Label:
    """Both kidneys are joined at their lower ends, before the vessels; the middle divides them."""
    out = label.copy()
    kidneys = [np.argwhere(label == side) for side in (LEFT, RIGHT)]
    if min(map(len, kidneys)) == 0:
        return out
    ends = [at[at[:, 2] <= np.percentile(at[:, 2], 15)].mean(axis=0) for at in kidneys]
    vessels = np.argwhere((label == AORTA) | (label == POSTCAVA))
    front = float(vessels[:, 1].max()) + 4 if len(vessels) else float(ends[0][1])
    path = np.linspace(0, 1, 200)[:, None]
    line = ends[0] * (1 - path) + ends[1] * path
    line[:, 1] += np.sin(np.pi * path[:, 0]) * (front - line[:, 1].max())
    isthmus = near(label.shape, line, 3.0) & (label == 0)
    first_half = np.arange(label.shape[0])[:, None, None] < (ends[0][0] + ends[1][0]) / 2
    lower, upper = (LEFT, RIGHT) if ends[0][0] < ends[1][0] else (RIGHT, LEFT)
    out[isthmus & first_half], out[isthmus & ~first_half] = lower, upper
    return out


def situs_inversus(label: Label, _: Rng) -> Label:
    """The patient is a mirror image; each kidney is called by the side it lies on."""
    return swapped(label[::-1], LEFT, RIGHT)


def cut(label: Label, rng: Rng) -> Label:
    """The field of view ends within the patient: from above, below, or a side."""
    n = label.shape[2]
    ends = (
        (slice(None), slice(None), slice(int(n * rng.uniform(0.3, 0.5)), n)),
        (slice(None), slice(None), slice(0, int(n * rng.uniform(0.5, 0.7)))),
        (slice(int(label.shape[0] * rng.uniform(0.15, 0.3)), None), slice(None), slice(None)),
    )
    return np.ascontiguousarray(label[ends[int(rng.integers(3))]])


def as_drawn(label: Label, _: Rng) -> Label:
    """As the phantom has it, its own hard cases included."""
    return label


CLEAN: dict[str, Callable[[Label, Rng], Label]] = {
    "as drawn": as_drawn,
    "cholecystectomy": without("gall_bladder"),
    "one kidney": without("kidney_left", "kidney_right"),
    "horseshoe kidney": horseshoe,
    "splenectomy": without("spleen"),
    "situs inversus": situs_inversus,
    "cut field of view": cut,
}


# Wrong


class Planted(NamedTuple):
    """A wrong label map, the organs that are wrong in it, and what is marked absent."""

    label: Label
    organs: tuple[str, ...]
    absent: tuple[str, ...] = ()


Plant = Callable[[Label, float, Rng], Planted | None]
"""Of a right label and a severity of 0 to 1; ``None``: the label has not what is needed."""


def kidneys_swapped(label: Label, _: float, __: Rng) -> Planted | None:
    """Each kidney under the other one's name."""
    if not has(label, "kidney_left", "kidney_right"):
        return None
    return Planted(swapped(label, LEFT, RIGHT), ("kidney_left", "kidney_right"))


def mirrored(label: Label, _: float, __: Rng) -> Planted:
    """The file is a mirror image, names as they were."""
    return Planted(label[::-1].copy(), ("kidney_left", "kidney_right", "spleen", "stomach"))


def turned(label: Label, severity: float, _: Rng) -> Planted:
    """The file is upside down, or front and back are swapped."""
    axis = 2 if severity < 0.5 else 1
    return Planted(np.flip(label, axis).copy(), ("kidney_left", "kidney_right"))


def leak(label: Label, severity: float, rng: Rng) -> Planted | None:
    """An organ leaks through to one that it never meets; wide of 3 to 9 mm radius."""
    pairs = [
        pair for pair in (
            ("stomach", "aorta"), ("stomach", "postcava"), ("stomach", "kidney_left"),
            ("spleen", "kidney_right"), ("liver", "kidney_left"), ("liver", "aorta"),
            ("kidney_left", "kidney_right"), ("spleen", "gall_bladder"),
        ) if has(label, *pair)
    ]  # fmt: skip
    if not pairs:
        return None
    name, other = pairs[int(rng.integers(len(pairs)))]
    own, their = (np.argwhere(label == ORGAN_IDS[one]) for one in (name, other))
    start = own[rng.integers(len(own))]
    end = their[np.argmin(((their - start) ** 2).sum(axis=1))]
    start = own[np.argmin(((own - end) ** 2).sum(axis=1))]
    line = start + np.linspace(0, 1, 100)[:, None] * (end - start)
    tube = near(label.shape, line, 1.0 + 2.0 * severity)
    out = np.where(tube & (label != ORGAN_IDS[other]), ORGAN_IDS[name], label)
    return Planted(out.astype(np.uint8), (name, other))


def broken_aorta(label: Label, severity: float, rng: Rng) -> Planted | None:
    """5 to 50 % of the aorta's slices are missing: its upper end, or from the middle."""
    slices = np.flatnonzero((label == AORTA).any(axis=(0, 1)))
    if len(slices) < 10:
        return None
    lost = max(2, round(len(slices) * (0.05 + 0.45 * severity)))
    first = len(slices) - lost if rng.random() < 0.5 else (len(slices) - lost) // 2
    out = label.copy()
    part = out[:, :, slices[first : first + lost]]
    part[part == AORTA] = 0
    out[:, :, slices[first : first + lost]] = part
    return Planted(out, ("aorta",))


def islands(label: Label, severity: float, rng: Rng) -> Planted | None:
    """One to three islands of an organ where there is none, 0.1 to 6 ml each."""
    name = some(label, rng)
    free = np.argwhere(ndimage.binary_erosion(label == 0, iterations=4))
    inner = ((free > 6) & (free < np.array(label.shape) - 7)).all(axis=1)
    if name is None or not inner.any():
        return None
    free = free[inner]
    out = label.copy()
    radius = (0.75 * (0.1 + 5.9 * severity**2) / ML / np.pi) ** (1 / 3)
    for _ in range(int(rng.integers(1, 4))):
        ball = near(label.shape, free[rng.integers(len(free))][None], radius)
        out[ball & (label == 0)] = ORGAN_IDS[name]
    return Planted(out, (name,))


def stump(label: Label, severity: float, rng: Rng) -> Planted | None:
    """60 to 95 % of an organ is not drawn, from above or below."""
    name = some(label, rng, ("liver", "spleen", "kidney_left", "kidney_right", "pancreas"))
    if name is None:
        return None
    at = np.argwhere(label == ORGAN_IDS[name])
    order = np.argsort(at[:, 2] * rng.choice([-1, 1]), kind="stable")
    lost = at[order[: int(len(at) * (0.6 + 0.35 * severity))]]
    out = label.copy()
    out[tuple(lost.T)] = 0
    return Planted(out, (name,))


def flood(label: Label, severity: float, rng: Rng) -> Planted | None:
    """An organ runs out into what is around it, to 3 to 12 times its volume."""
    name = some(label, rng, ("spleen", "kidney_left", "kidney_right", "pancreas", "gall_bladder"))
    if name is None:
        return None
    own = label == ORGAN_IDS[name]
    far = ndimage.distance_transform_edt(~own)
    out, wanted = label.copy(), int(own.sum() * (2 + 9 * severity))
    free = np.argwhere((label == 0) & (far > 0))
    if len(free) < wanted:
        return None
    order = np.argpartition(far[tuple(free.T)], wanted - 1)[:wanted]
    out[tuple(free[order].T)] = ORGAN_IDS[name]
    return Planted(out, (name,))


def names_exchanged(label: Label, _: float, rng: Rng) -> Planted | None:
    """Two organs' numbers are exchanged, as of another dataset's map."""
    pairs = [
        pair for pair in (
            ("gall_bladder", "spleen"), ("pancreas", "aorta"), ("postcava", "kidney_left"),
            ("stomach", "kidney_right"), ("spleen", "kidney_right"), ("aorta", "stomach"),
            ("liver", "spleen"),
        ) if has(label, *pair)
    ]  # fmt: skip
    if not pairs:
        return None
    first, second = pairs[int(rng.integers(len(pairs)))]
    return Planted(swapped(label, ORGAN_IDS[first], ORGAN_IDS[second]), (first, second))


def both_in_one(label: Label, severity: float, _: Rng) -> Planted | None:
    """Both kidneys under the name of one."""
    if not has(label, "kidney_left", "kidney_right"):
        return None
    one, other = (LEFT, RIGHT) if severity < 0.5 else (RIGHT, LEFT)
    out = np.where(label == other, one, label).astype(np.uint8)
    return Planted(out, (ORGAN_NAMES[one - 1],))


def denied(label: Label, severity: float, _: Rng) -> Planted | None:
    """An organ that nobody lacks is marked absent."""
    name = ("liver", "aorta", "postcava")[min(2, int(3 * severity))]
    if not has(label, name):
        return None
    return Planted(without(name)(label, np.random.default_rng(0)), (name,), (name,))


class Kind(NamedTuple):
    """A kind of fault: how it is planted, and the rules made for it."""

    plant: Plant
    rules: tuple[str, ...]


KINDS: dict[str, Kind] = {
    "kidneys swapped": Kind(kidneys_swapped, ("mirrored", "laterality")),
    "mirror image": Kind(mirrored, ("mirrored",)),
    "upside down": Kind(turned, ("mirrored",)),
    "leak into another": Kind(leak, ("touching",)),
    "broken aorta": Kind(broken_aorta, ("gap",)),
    "islands": Kind(islands, ("pieces",)),
    "organ cut short": Kind(stump, ("unusual", "volume")),
    "organ run out": Kind(flood, ("unusual", "volume")),
    "numbers exchanged": Kind(
        names_exchanged, ("shape", "place", "mirrored", "volume", "unusual", "laterality")
    ),
    "both kidneys in one": Kind(both_in_one, ("two",)),
    "marked absent": Kind(denied, ("missing",)),
}


def near(shape: tuple[int, ...], line: np.ndarray, radius: float) -> np.ndarray:
    """Voxels within a radius, in voxels, of the points of a line."""
    at = np.ones(shape, dtype=bool)
    inside = np.rint(line).astype(int)
    inside = inside[((inside >= 0) & (inside < shape)).all(axis=1)]
    at[tuple(inside.T)] = False
    out: np.ndarray = ndimage.distance_transform_edt(at) <= radius
    return out


def swapped(label: Label, first: int, second: int) -> Label:
    """A label with two ids exchanged."""
    table = np.arange(256, dtype=np.uint8)
    table[[first, second]] = second, first
    return table[label]


def has(label: Label, *organs: str) -> bool:
    """Whether all of these have more than a scrap, 3 ml."""
    return all(np.count_nonzero(label == ORGAN_IDS[one]) * ML > 3 for one in organs)


def some(label: Label, rng: Rng, organs: tuple[str, ...] = ORGAN_NAMES) -> str | None:
    """One of the organs that lie whole within the label."""
    whole = [
        name for name in organs
        if has(label, name) and not _at_edge(label == ORGAN_IDS[name])
    ]  # fmt: skip
    return str(rng.choice(whole)) if whole else None


def _at_edge(mask: np.ndarray) -> bool:
    inner = mask[3:-3, 3:-3, 3:-3]
    return bool(np.count_nonzero(inner) < np.count_nonzero(mask))
