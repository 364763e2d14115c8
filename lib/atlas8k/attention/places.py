"""Find the few places that an annotator should look at, and say what is in doubt there.

What ranks volumes is the sum of attention; what is shown to a person is made for that: connected
spots where the chance of a real error is high, the most expected wrong ml first. Spots of two
organs that touch are one place, which names both. The chance comes from
:class:`~atlas8k.attention.quality_model.QualityModel`, voxel by voxel on a thinned grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain

import cc3d
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from atlas8k.attention.equations import CUT
from atlas8k.attention.quality_model import QualityModel
from atlas8k.attention.regions import Box, Region, Triple, bounding_box
from atlas8k.attention.slabs import workers
from atlas8k.attention.thinned import Mask, OrganPart, Thinned
from atlas8k.attention.voxel_features import voxel_features
from atlas8k.core.grid import Grid
from atlas8k.core.structures import ORGAN_IDS

MOST_PLACES = 10
NETWORK_WORDS = {"swin_unetr": "Swin UNETR", "unet": "U-Net", "nnunet": "nnU-Net"}
_CLAIMED = "both claim it"
SHARE = 0.5
"""Of a place that a network gives to an organ, so that this is said."""
ENDS_MM = 8.0
"""Difference of an organ's end between networks, feet to head, that is worth a word."""


@dataclass(frozen=True)
class PlaceSettings:
    """What counts as a place.

    Attributes
    ----------
    chance
        A voxel belongs to one where the chance of an error is above this.
    wrong_ml
        Places with less expected wrong ml are not shown.
    most
        Places of a CT at most.

    Notes
    -----
    Of chances from 0.05 to 0.3 and of 0 to 3 ml, on tuning CTs that the model had not seen: with
    less ml nine of ten more places are no error of 4 ml, with more ml errors are missed.
    """

    chance: float = 0.1
    wrong_ml: float = 2.0
    most: int = MOST_PLACES


@dataclass(frozen=True, eq=False)
class Places:
    """The places of one CT.

    Attributes
    ----------
    regions
        Most expected wrong ml first, in the index of the whole grid.
    voxels
        Of each region, ``(n, 3)`` index on the thinned grid.
    mask
        ``(X, Y, Z)`` uint8 on the thinned grid: id of the organ in doubt, 0 elsewhere; of
        places of several organs the first.
    grid
        The thinned grid.
    """

    regions: tuple[Region, ...]
    voxels: tuple[npt.NDArray[np.intp], ...]
    mask: npt.NDArray[np.uint8]
    grid: Grid


def find_places(
    volume: Thinned,
    model: QualityModel,
    names: Sequence[str],
    settings: PlaceSettings | None = None,
) -> Places:
    """Find where the label of a volume is likely to be wrong.

    Parameters
    ----------
    volume
        See :func:`~atlas8k.attention.thinned.thinned`.
    model
        Fitted to the networks.
    names
        Of the networks, in the order of the probabilities, for the words.
    settings
        Defaults where ``None``.
    """
    settings = settings or PlaceSettings()

    def of(part: OrganPart) -> list[_Found]:
        return list(_places_of(part, volume, model, settings))

    with ThreadPoolExecutor(workers()) as pool:  # what takes time lets other threads run
        found = list(chain.from_iterable(pool.map(of, volume.parts)))
    kept = sorted(_joined(sorted(found, key=_order), volume), key=_order)[: settings.most]
    voxels = tuple(one.voxels() for one in kept)
    mask = np.zeros(volume.label.shape, dtype=np.uint8)
    for one, at in zip(reversed(kept), reversed(voxels), strict=True):
        mask[tuple(at.T)] = ORGAN_IDS[one.part.organ]
    return Places(tuple(one.region(volume, names) for one in kept), voxels, mask, volume.grid)


@dataclass(frozen=True, eq=False)
class _Found:
    """A place of one organ on the thinned grid: its box there, and its voxels in the box.

    ``chances`` are those of its own voxels, ``others`` places of other organs that touch it, seen
    as one place with it.
    """

    part: OrganPart
    box: Box
    inside: Mask
    wrong_ml: float
    chances: npt.NDArray[np.float32]
    others: tuple[_Found, ...] = ()

    @property
    def start(self) -> Triple:
        return self.box[0].start, self.box[1].start, self.box[2].start

    def region(self, volume: Thinned, names: Sequence[str]) -> Region:
        """Return it in the index of the whole grid, with words."""
        steps = np.array(volume.steps)
        at, chances = self._every()
        first = np.array([step // 2 for step in volume.steps])
        start, stop = at.min(axis=0) * steps, (at.max(axis=0) + 1) * steps
        widest = [int(np.bincount(at[:, axis]).argmax()) for axis in range(3)]
        # Where a viewer jumps to lies in the place, which a bent one's centroid does not.
        across = at[at[:, 2] == widest[2]]
        apart = ((across - across.mean(axis=0)) * volume.spacing) ** 2
        centre = across[int(apart.sum(axis=1).argmin())] * steps + first
        largest = np.array(widest) * steps + first
        return Region(
            organ=self.part.organ,
            ml=float(len(at) * volume.voxel_ml),
            attention_ml=float(
                sum(one._attention() for one in (self, *self.others)) * volume.voxel_ml
            ),
            start=(int(start[0]), int(start[1]), int(start[2])),
            stop=(int(stop[0]), int(stop[1]), int(stop[2])),
            centre=(float(centre[0]), float(centre[1]), float(centre[2])),
            largest_slice=(int(largest[0]), int(largest[1]), int(largest[2])),
            wrong_ml=self.wrong_ml,
            chance=float(chances.mean()),
            # Two parts of one organ may say the same.
            why="; ".join(
                dict.fromkeys([*_why(self, volume, names), *self._why_others(volume, names)])
            ),
            also=tuple(dict.fromkeys(one.part.organ for one in self.others)),
        )

    def with_others(self, others: Sequence[_Found], volume: Thinned) -> _Found:
        """Return it as one place with those; where they overlap, the larger chance counts."""
        one = replace(self, others=tuple(others))
        return replace(one, wrong_ml=float(one._every()[1].sum()) * volume.voxel_ml)

    def voxels(self) -> npt.NDArray[np.intp]:
        """Return the index of its voxels on the thinned grid, ``(n, 3)``."""
        return self._every()[0]

    def _every(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
        """Return its voxels and those of the others, each once, and their chances."""
        parts = (self, *self.others)
        at = np.concatenate([np.argwhere(one.inside) + one.start for one in parts])
        every, index = np.unique(at, axis=0, return_inverse=True)
        chances = np.zeros(len(every), np.float32)
        np.maximum.at(chances, index.ravel(), np.concatenate([one.chances for one in parts]))
        return every, chances

    def _why_others(self, volume: Thinned, names: Sequence[str]) -> Iterator[str]:
        """Say of each other organ what is in doubt, but not twice that two claim it."""
        for one in self.others:
            said = [text for text in _why(one, volume, names) if not text.endswith(_CLAIMED)]
            if said:
                yield f"{_words(one.part.organ)}: {', '.join(said)}"

    def touches(self, other: _Found) -> bool:
        """Return whether one of its voxels is one of the other's, or next to it."""
        first, second = (one.box for one in (self, other))
        common = [
            slice(max(a.start, b.start - 1), min(a.stop, b.stop + 1))
            for a, b in zip(first, second, strict=True)
        ]
        if any(span.start >= span.stop for span in common):
            return False
        own = self.inside[tuple(_within(common, first))]
        around = ndimage.binary_dilation(np.pad(other.inside, 1), np.ones((3, 3, 3)))
        wider = [slice(span.start - 1, span.stop + 1) for span in second]
        return bool((own & around[tuple(_within(common, wider))]).any())

    def within(self) -> Box:
        """Return its box in the organ's own part."""
        x, y, z = _within(self.box, self.part.box)
        return x, y, z

    def probs(self) -> npt.NDArray[np.float32]:
        """Return the networks' probabilities of its voxels, ``(models, n)``."""
        out: npt.NDArray[np.float32] = self.part.probs[(slice(None), *self.within())][
            :, self.inside
        ]
        return out

    def _attention(self) -> float:
        """Return Eq. 1 plus Eq. 2 over its voxels."""
        probs = self.probs().astype(np.float64)
        mean = probs.mean(axis=0)
        entropy = -(mean * np.log(np.maximum(mean, 1e-12))).sum()
        return float(probs.std(axis=0).sum() + entropy)


def _within(inner: Sequence[slice], outer: Sequence[slice]) -> list[slice]:
    """Return a box in the index of one around it."""
    return [slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer, strict=True)]


def _order(one: _Found) -> tuple[float, str, Triple]:
    return -one.wrong_ml, one.part.organ, one.start


def _joined(found: Sequence[_Found], volume: Thinned) -> Iterator[_Found]:
    """Yield places, each one with the smaller ones of other organs that touch it.

    Those bring no others with them: a chain along the outlines of the abdomen is no place.

    Parameters
    ----------
    found
        Most expected wrong ml first.
    """
    waiting = list(found)
    while waiting:
        one, *rest = waiting
        beside = [o for o in rest if o.part.organ != one.part.organ and o.touches(one)]
        waiting = [o for o in rest if o not in beside]
        yield one.with_others(beside, volume) if beside else one


def _places_of(
    part: OrganPart, volume: Thinned, model: QualityModel, settings: PlaceSettings
) -> Iterator[_Found]:
    """Yield the places of one organ."""
    doubtful = voxel_features(part, volume)
    chance = np.zeros(part.mask.shape, dtype=np.float32)
    chance[doubtful.where] = model.chance(doubtful.features)
    pieces = cc3d.connected_components(chance > settings.chance, connectivity=26)
    if not pieces.any():
        return
    statistics = cc3d.statistics(pieces)
    wrong_ml = np.bincount(pieces.ravel(), weights=chance.ravel()) * volume.voxel_ml
    wrong_ml[0] = 0.0
    for number in np.flatnonzero(wrong_ml >= settings.wrong_ml):
        box = statistics["bounding_boxes"][number]
        inside = pieces[box] == number
        values = chance[box][inside]
        x, y, z = (
            slice(b.start + p.start, b.stop + p.start) for b, p in zip(box, part.box, strict=True)
        )
        yield _Found(
            part,
            (x, y, z),
            inside,
            wrong_ml=float(wrong_ml[number]),
            chances=values,
        )


def _why(place: _Found, volume: Thinned, names: Sequence[str]) -> list[str]:
    """Say what the networks disagree about, in a few words."""
    words = [NETWORK_WORDS.get(name, name) for name in names]
    said = []
    others = volume.label[place.box][place.inside]
    claimed = np.bincount(others[others != ORGAN_IDS[place.part.organ]], minlength=256)
    claimed[0] = 0
    if claimed.sum() >= SHARE * len(others):
        other = next(name for name, value in ORGAN_IDS.items() if value == claimed.argmax())
        said.append(f"{_words(place.part.organ)} and {_words(other)} {_CLAIMED}")
    if len(words) == len(place.part.probs):  # else some do not know the organ
        within = place.part.mask[place.within()][place.inside].mean() > SHARE
        has = [(one > CUT).mean() > SHARE for one in place.probs()]
        odd = [word for word, yes in zip(words, has, strict=True) if yes != within]
        if odd and len(odd) < len(words):
            verb = ("leave", "out") if within else ("take", "in")
            ending = "" if len(odd) > 1 else "s"
            said.append(f"{' and '.join(odd)} {verb[0]}{ending} it {verb[1]}")
        elif odd:
            said.append("no network is sure of it" if within else "each network takes it in")
        said += _ends(place, volume, words)
    return said or ["the networks are unsure here"]


def _words(name: str) -> str:
    return name.replace("_", " ")


def _ends(place: _Found, volume: Thinned, words: Sequence[str]) -> Iterator[str]:
    """Say where one network's organ ends higher or lower than all others', at this place."""
    step = float(volume.spacing[2])
    spans = []
    for probs in place.part.probs:
        box = bounding_box(probs > CUT)
        if box is None:
            return
        spans.append((box[2].start, box[2].stop))
    if len(spans) < 2:
        return
    low, high = place.within()[2].start, place.within()[2].stop
    for end, direction in ((1, "higher"), (0, "lower")):
        ends = np.array([span[end] for span in spans])
        order = np.argsort(ends if end else -ends)
        last, before = int(ends[order[-1]]), int(ends[order[-2]])
        gap_mm = abs(last - before) * step
        first, past = sorted((last, before))
        meets = low < past and high > first
        if gap_mm >= ENDS_MM and meets:
            yield f"{words[order[-1]]} ends {gap_mm / 10:.0f} cm {direction}"


def upsampled(places: Places, grid: Grid, steps: Triple) -> npt.NDArray[np.uint8]:
    """Return the places on the whole grid, ``grid.shape`` uint8 organ ids."""
    out = places.mask
    for axis, step in enumerate(steps):
        out = np.repeat(out, step, axis=axis)
    short = [(0, max(0, n - m)) for n, m in zip(grid.shape, out.shape, strict=True)]
    x, y, z = grid.shape
    return np.pad(out, short)[:x, :y, :z]
