"""Change a label by strokes: what a page, 3D Slicer and OHIF call.

The CT and what networks think of it are held in memory for the volume that was asked of last, so
that only its first stroke waits: for the files, and for the networks where nobody has predicted
it yet.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from atlas8k.attention import Quantised
from atlas8k.attention.probabilities import LEVELS
from atlas8k.core.errors import CheckpointError, DeviceLostError, GridMismatchError, PredictionError
from atlas8k.core.grid import Grid
from atlas8k.core.grid_alignment import Box, box_on
from atlas8k.core.parts import read_part, whole
from atlas8k.core.resample import resample
from atlas8k.core.structure_sets import Organ
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.core.volume import read_grid
from atlas8k.models.store import ModelStore
from atlas8k.refine.adopt import adopt
from atlas8k.refine.strokes import Label, Opinions, Refined, Strokes, refine
from atlas8k.services.errors import RequestError
from atlas8k.services.nninteractive import NAME, NnInteractive
from atlas8k.services.prediction.engine import Engine
from atlas8k.services.studies.folder import StudiesFolder
from atlas8k.services.studies.served import file_fingerprint
from atlas8k.store import Assistance

logger = logging.getLogger(__name__)

By = Literal["networks", "nninteractive"]
"""What decides what strokes mean: our networks and the CT, or nnInteractive's server."""
ALONE = "the networks have not predicted this CT: decided from intensities alone"
FARTHER = "; it goes on farther than is shown here: draw a stroke there, too"
AGREES = "the label has it so already; draw where it is wrong"


@dataclass(frozen=True, eq=False)
class Answer:
    """What strokes came to.

    Attributes
    ----------
    box
        The block of the CT that may have changed; None: the label agrees with every stroke.
    refined
        That block's label, and what changed.
    note
        What a person should know of it; may be empty.
    """

    box: Box | None
    refined: Refined | None
    note: str = ""


@dataclass(frozen=True, eq=False)
class _Held:
    key: tuple[Any, ...]
    ct: npt.NDArray[np.int16]
    grid: Grid
    codes: tuple[Quantised, Grid] | None
    why: str


class StrokeService:
    """Strokes on the CTs of one workspace; one volume's arrays are held at a time.

    Parameters
    ----------
    networks
        False: there are none, strokes are decided from intensities.
    outside
        nnInteractive's server, where there is one.
    """

    def __init__(
        self,
        studies: StudiesFolder,
        engine: Engine,
        models: ModelStore,
        *,
        networks: bool,
        outside: NnInteractive | None = None,
    ) -> None:
        self._studies, self._engine, self._models = studies, engine, models
        self._networks, self.outside = networks, outside
        self._lock = threading.Lock()
        self._held: _Held | None = None

    def close(self) -> None:
        """Let go of what another server holds for us."""
        if self.outside is not None:
            self.outside.close()

    def ready(self, image: str) -> bool:
        """Return whether the next stroke on a volume waits for no network."""
        path = self._studies.image_path(image)
        held = self._held
        if held is not None and held.key[:2] == (path, file_fingerprint(path)):
            return True
        return not self._networks or self._engine.holds(path, image)

    def prepare(self, image: str) -> None:
        """Read a volume and what networks think of it; predicts it where nobody has."""
        self._of(self._studies.image_path(image), image)

    def answer(
        self,
        image: str | Path,
        organ: Organ,
        label: Label,
        strokes: Strokes,
        *,
        box: Box | None = None,
        predicted: bool = True,
        by: By = "networks",
        asked_by: Collection[str] = (),
    ) -> Answer:
        """Return what strokes change of an organ.

        Parameters
        ----------
        image
            A volume's id; or the file of an upload.
        label
            ``(X, Y, Z)`` uint8 as it is drawn now, of the whole CT or of `box`.
        strokes
            In voxels of the CT's own array.
        box
            The block that `label` covers; nothing around it changes.
        predicted
            False: without the networks, as for who reads a CT from scratch.
        by
            What decides.
        asked_by
            Keys of who asks; a tool from outside that helps is kept with the volume and them.

        Raises
        ------
        RequestError
            It is to be nnInteractive, and there is no server of it, or this CT is read from
            scratch.
        UpstreamError, ConflictError
            See :meth:`~atlas8k.services.nninteractive.NnInteractive.propose`.
        StrokeError
            See :meth:`~atlas8k.refine.strokes.Strokes.check`.
        GridMismatchError
            The label does not fit the CT, or the block.
        VolumeError
            The CT cannot be read.
        """
        volume = image if isinstance(image, str) else None
        name = volume or Path(image).name
        path = self._studies.image_path(volume) if volume else Path(image)
        grid = read_grid(path)
        strokes.check(grid.shape, name)
        part = box or whole(grid.shape).box
        shape = tuple(s.stop - s.start for s in part)
        if label.shape != shape:
            raise GridMismatchError(name, f"a label of {label.shape} was sent for {shape} voxels")
        start = [s.start for s in part]
        within = _inside(strokes, part)
        against = within.contradicting(label, organ.id)
        if by == "nninteractive":
            if not predicted:
                raise RequestError("this CT is read from scratch: nothing else proposes a label")
            if not len(against.inside) + len(against.outside):
                return Answer(None, None, AGREES)
            if volume is not None and not self._studies.ledger.is_known(volume):
                self._studies.ledger.add_volumes([volume])
            found, used = self._outside(path, grid, organ, label, part, within)
            changed = found.label != label
            if volume is not None:
                # An organ that gave way to a stroke is another one by it, too.
                for number in np.unique(np.append(label[changed], found.label[changed])):
                    if number:
                        name = ORGAN_NAMES[number - 1]
                        self._studies.ledger.note_assistance(volume, name, used, asked_by)
            more = FARTHER if _reaches_out(changed, part, grid.shape) else ""
            note = f"proposed by {used.tool}, weights under {used.licence}{more}"
            return Answer(part, found, note)
        reach = against.box(grid.crop(part), name)
        if reach is None:
            return Answer(None, None, AGREES)
        held = self._of(path, volume, networks=predicted)
        there: Box = tuple(  # type: ignore[assignment]
            slice(s.start + first, s.stop + first) for s, first in zip(reach, start, strict=True)
        )
        near = _inside(within, reach)
        opinions = partial(_opinions, held.codes if predicted else None, organ)
        found = refine(
            held.ct[there], label[reach], held.grid.crop(there), organ.id, near, opinions
        )
        return Answer(there, found, "" if found.predicted else (held.why or ALONE))

    def _outside(
        self, path: Path, grid: Grid, organ: Organ, label: Label, part: Box, within: Strokes
    ) -> tuple[Refined, Assistance]:
        """Return what nnInteractive proposes for a block; what is around it, it is not told."""
        if self.outside is None:
            raise RequestError("nninteractive: no server of it is set, see --conf nninteractive")
        mask = np.zeros(grid.shape, dtype=bool)
        mask[part] = label == organ.id
        start = [s.start for s in part]
        drawn = Strokes(within.inside + start, within.outside + start)
        proposed, licence = self.outside.propose(path, file_fingerprint(path), grid, mask, drawn)
        return adopt(label, proposed[part], organ.id, within), Assistance(NAME, licence)

    def _of(self, path: Path, volume: str | None, *, networks: bool = True) -> _Held:
        """Return the arrays of a CT, read and predicted now where they are not held."""
        with self._lock:
            wanted = networks and self._networks
            version = self._version() if wanted else None
            key = (path, file_fingerprint(path), version)
            held = self._held
            same = held is not None and held.key[:2] == key[:2]
            if held is not None and same and (held.key == key or not wanted):
                return held
            self._held = None if not same else held  # two CTs are never in memory
            grid = read_grid(path)
            ct = held.ct if held is not None and same else read_part(path, whole(grid.shape))
            codes, why = None, ""
            if version is not None:
                try:
                    found, where, _ = self._engine.probabilities(path, volume=volume)
                    codes = (found, where)
                except (CheckpointError, DeviceLostError, PredictionError) as err:
                    logger.warning("%s: strokes without networks: %s", path.name, err)
                    why = f"the networks do not predict this CT ({err}): from intensities alone"
            self._held = made = _Held(key, ct, grid, codes, why)
            return made

    def _version(self) -> str | None:
        try:
            return self._models.served().model_version
        except CheckpointError:
            return None


def _reaches_out(changed: npt.NDArray[np.bool_], part: Box, shape: tuple[int, ...]) -> bool:
    """Return whether what changed touches a face of a block that is none of the CT."""
    for axis, (span, n) in enumerate(zip(part, shape, strict=True)):
        first, last = changed.take(0, axis), changed.take(-1, axis)
        if (span.start > 0 and first.any()) or (span.stop < n and last.any()):
            return True
    return False


def _inside(strokes: Strokes, box: Box) -> Strokes:
    """Return the strokes' voxels within a block, in voxels of the block."""
    low, high = ([getattr(s, end) for s in box] for end in ("start", "stop"))

    def of(points: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        there = ((points >= low) & (points < high)).all(axis=1)
        found: npt.NDArray[np.intp] = points[there] - low
        return found

    return Strokes(of(strokes.inside), of(strokes.outside))


def _opinions(codes: tuple[Quantised, Grid] | None, organ: Organ, grid: Grid) -> Opinions | None:
    """Return what networks think on a grid; None where none has predicted the organ here."""
    if codes is None or codes[0].codes.shape[1] != len(ORGAN_NAMES):
        return None  # of a set of structures that the networks do not know in full
    quantised, source = codes
    box = box_on(whole(grid.shape).box, grid, source)
    part = source.crop(box)
    row = ORGAN_NAMES.index(organ.name)
    levels = LEVELS.astype(np.float32)
    some = quantised.codes[(slice(None), slice(None), *box)]
    mine = levels[some[:, row]]
    others = levels[np.delete(some, row, axis=1)].mean(axis=0).max(axis=0)
    probs = np.stack([resample(one, part, grid, linear=True) for one in mine])
    return Opinions(probs, resample(others, part, grid, linear=True))
