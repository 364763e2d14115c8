"""Predict one CT with all networks: probabilities of the structures in use on one grid."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from math import prod
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from atlas8k.core.errors import (
    CheckpointError,
    DeviceLostError,
    PredictionError,
    ShortMemoryError,
)
from atlas8k.core.grid_alignment import Box, box_on
from atlas8k.core.memory import sparse_zeros
from atlas8k.core.structures import ORGAN_NAMES, in_use
from atlas8k.core.volume import Grid, Volume
from atlas8k.models.behind import Behind
from atlas8k.models.body import body_box
from atlas8k.models.checkpoint import Checkpoint, network
from atlas8k.models.cpu_optimisations import compile_or_not, optimise_for_cpu
from atlas8k.models.ensemble import EnsembleSettings, Prediction, fill_unknown
from atlas8k.models.preprocess import intensity_key, prepare
from atlas8k.models.regrid import MANY, bytes_written, interpolate_into, least_of
from atlas8k.models.resources import (
    MemoryPlan,
    check_memory,
    is_device_lost,
    is_out_of_memory,
    keep_freed_memory,
    map_in_order,
)
from atlas8k.models.windows import probabilities, sums_bytes, tile

if TYPE_CHECKING:
    from atlas8k.models.store import ServedSet

__all__ = ["GRID_MM", "PRECISIONS", "Prediction", "Predictor", "Prepared"]

GRID_MM = 1.5
"""Spacing of the grid on which networks of different spacing meet (reference code)."""
PRECISIONS = ("float32", "bfloat16", "float16")

log = logging.getLogger(__name__)

Flips = tuple[tuple[int, ...], ...]
"""Sets of window dimensions to flip; the first is empty, the window as it is."""


class Input(NamedTuple):
    """What networks of one preprocessing take.

    Attributes
    ----------
    networks
        Their names.
    array
        ``(x, y, z)`` float32 in 0..1, axes nearest RAS.
    keep
        The patient's box in it.
    source
        Its grid.
    """

    networks: tuple[str, ...]
    array: npt.NDArray[np.float32]
    keep: Box | None
    source: Grid


class Failed(NamedTuple):
    """Why a network could not predict a CT, and whether that was for want of memory."""

    reason: str
    short: bool


@dataclass(frozen=True, eq=False)
class Prepared:
    """A CT as the networks take it, made by :meth:`Predictor.prepare`.

    Attributes
    ----------
    grid
        That of the probabilities.
    """

    ct: Volume
    grid: Grid
    inputs: Iterable[Input]


class Predictor:
    """Networks in memory, ready for one CT after another.

    Parameters
    ----------
    checkpoints
        Networks by name, or a served set, which is loaded.
    device
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
    overlap
        Overlap of the windows, in place of each checkpoint's own.
    grid_mm
        Spacing of the grid of :attr:`Prediction.probs`.
    precision
        Precision of the networks. With ``"float32"`` (on a GPU cuDNN's TF32) labels are those of a
        plain prediction. ``"bfloat16"`` is two to three times faster on a CPU with AMX,
        but moved single organs of single networks to a DSC of 0.991 with the float32
        label, ``"float16"`` to 0.997. Sums and probabilities are float32 always.
    batch
        Windows at once; ``None`` for two on a CPU (one where windows are larger than 64
        voxels a side) and four on a GPU.
    compiled
        Networks through :func:`torch.compile`, which needs a C++ compiler and, at the first
        CT, a minute or more; for processes that predict many on a GPU.
    mirror_axes
        Test-time augmentation: mean of the logits over windows mirrored along each set of
        these axes of RAS (0 left-right, 1 back-front, 2 feet-head); three cost eight
        times. 0 only for networks trained with it. A network whose checkpoint states the
        axes it was trained with uses only those among them; with ``"trained"`` each uses
        all that its checkpoint states, the others none.
    ensemble
        Settings by which probabilities become labels.

    Raises
    ------
    CheckpointError
        No network can be loaded.
    ValueError
        Unknown precision or axis.

    Notes
    -----
    Not for use from several threads at once: the networks' memory is shared. A network
    that fails is left out, logged and named in :attr:`failures` or, where it failed on
    one CT, in :attr:`Prediction.failures`.
    """

    def __init__(
        self,
        checkpoints: Mapping[str, Checkpoint] | ServedSet,
        device: str = "cpu",
        *,
        overlap: float | None = None,
        grid_mm: float = GRID_MM,
        precision: str = "float32",
        batch: int | None = None,
        compiled: bool = False,
        mirror_axes: Sequence[int] | Literal["trained"] = (),
        ensemble: EnsembleSettings | None = None,
    ) -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
        self.device = torch.device(device)
        self.overlap = overlap
        self.grid_mm = grid_mm
        self._plans: dict[str, MemoryPlan] = {}
        self._mirror = mirror_axes if isinstance(mirror_axes, str) else tuple(mirror_axes)
        if not isinstance(self._mirror, str):
            flips_along(self._mirror)  # refused here, not at the first CT
        self.ensemble = ensemble or EnsembleSettings()
        self.dtype: torch.dtype = getattr(torch, precision)
        self.failures: dict[str, str] = {}
        if not isinstance(checkpoints, Mapping):
            served = checkpoints
            checkpoints = served.load()
            self.failures.update(served.failures)
        self._networks: dict[str, tuple[Checkpoint, torch.nn.Module]] = {}
        for name, checkpoint in checkpoints.items():
            try:
                if not {*checkpoint.organs} & {*ORGAN_NAMES}:
                    raise CheckpointError(
                        name,
                        f"knows {', '.join(checkpoint.organs)}, none of the structures that are "
                        f"annotated here ({in_use().name}: {', '.join(ORGAN_NAMES)})",
                    )
                module = network(checkpoint, self.device)
            except Exception as err:  # no such device, out of memory
                self._leave_out(name, err)
                continue
            if self.dtype != torch.float32:  # measured: no gain for float32 on a CPU
                module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
            elif self.device.type == "cpu":
                optimise_for_cpu(module)
            if compiled:
                compile_or_not(module)
            plan = MemoryPlan.of(self.device, checkpoint.preprocessing.window_size, batch)
            self._plans[name] = replace(plan, workers=1) if compiled else plan
            self._networks[name] = (checkpoint, module)
        if self.device.type == "cpu":
            keep_freed_memory()
        if not self._networks:
            raise CheckpointError("models", f"no network could be loaded: {self.failures}")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the networks that are loaded, in the order of predictions."""
        return tuple(self._networks)

    @property
    def organs(self) -> tuple[str, ...]:
        """Structures in use that one of the networks knows, by id."""
        known = {organ for checkpoint, _ in self._networks.values() for organ in checkpoint.organs}
        return tuple(organ for organ in ORGAN_NAMES if organ in known)

    def prepare(self, ct: Volume) -> Prepared:
        """Do what a prediction needs of the processor only, as ahead of a GPU's turn.

        Parameters
        ----------
        ct
            ``(X, Y, Z)``, HU, any orientation, spacing and shape.
        """
        begun = self._begun(ct)
        return replace(begun, inputs=tuple(begun.inputs))

    def _begun(self, ct: Volume) -> Prepared:
        box = body_box(ct)
        working = ct.grid.working(self.grid_mm)
        grid = working.crop(box_on(box, ct.grid, working))
        return Prepared(ct, grid, self._inputs(ct, box))

    def _inputs(self, ct: Volume, box: Box) -> Iterator[Input]:
        """Yield what networks of one preprocessing take, one array at a time."""
        groups: dict[Any, list[str]] = {}
        for name, (checkpoint, _) in self._networks.items():
            groups.setdefault(intensity_key(checkpoint.preprocessing), []).append(name)
        for names in groups.values():
            array, source = prepare(ct, self._networks[names[0]][0].preprocessing)
            yield Input(tuple(names), array, box_on(box, ct.grid, source), source)

    def predict(self, ct: Volume | Prepared) -> Prediction:
        """Predict one CT.

        Parameters
        ----------
        ct
            ``(X, Y, Z)``, HU, any orientation, spacing and shape; or what :meth:`prepare` of
            these networks made of it.

        Raises
        ------
        PredictionError
            Every network failed.
        ShortMemoryError
            It needs more memory than is free.
        DeviceLostError
            The GPU does not answer; these networks cannot be used any more.
        """
        prepared = ct if isinstance(ct, Prepared) else self._begun(ct)
        ct, grid, organs = prepared.ct, prepared.grid, self.organs
        shape = len(self._networks), len(organs), *grid.shape
        if len(organs) <= MANY:
            check_memory(prod(shape) * np.dtype(np.float16).itemsize, str(ct.path or "CT"))
            probs = np.zeros(shape, dtype=np.float16)
        else:  # checked when it is known how much of it will be written
            probs = sparse_zeros(shape, np.float16)
        failures: dict[str, str] = {}
        short: set[str] = set()
        order = {name: row for row, name in enumerate(self._networks)}
        # A GPU goes on with the next network; on a CPU there is nobody to do it beside.
        with Behind(self.device.type == "cuda") as behind:
            for given in prepared.inputs:
                fill = partial(self._fill, ct, given, grid, probs, order, behind)
                names = list(given.networks)
                for name, failed in map_in_order(fill, names, self._workers(names)):
                    if failed is not None:
                        failures[name] = failed.reason
                        short.update([name] if failed.short else [])
        if len(failures) == len(self._networks):
            kind = ShortMemoryError if short else PredictionError
            error = kind(f"{ct.path or 'CT'}: every network failed: {failures}")
            raise error.of_network(*next(iter(failures.items())))
        worked = [name for name in self._networks if name not in failures]
        if failures:
            probs = probs[[order[name] for name in worked]]
        covered = self._covered(worked)
        fill_unknown(probs, covered)
        return Prediction(
            grid,
            probs,
            tuple(worked),
            covered,
            organs,
            {**self.failures, **failures},
            self.ensemble,
            frozenset(self.failures),
            frozenset(short),
        )

    def _fill(
        self,
        ct: Volume,
        given: Input,
        grid: Grid,
        probs: npt.NDArray[np.float16],
        rows: Mapping[str, int],
        behind: Behind,
        name: str,
    ) -> Failed | None:
        """Fill one network's row of `probs`, 0 so far; return what it failed of, if it did.

        It is full once `behind` is done.
        """
        try:
            predicted = self._run(name, given.array, given.keep)
        except Exception as err:  # the other networks go on after any error
            if is_device_lost(err, self.device):
                raise DeviceLostError(str(self.device), str(err).split("\n")[0]) from err
            log.exception("%s failed on %s and is left out", name, ct.path or "a CT")
            return Failed(f"{type(err).__name__}: {err}", is_out_of_memory(err))
        behind.do(partial(self._spread, ct, given, grid, probs, rows[name], name, predicted))
        return None

    def _spread(
        self,
        ct: Volume,
        given: Input,
        grid: Grid,
        probs: npt.NDArray[np.float16],
        row: int,
        name: str,
        predicted: torch.Tensor,
    ) -> None:
        """Bring one network's probabilities from its own grid into its row of `probs`."""
        organs, known = self._networks[name][0].organs, self.organs
        least = least_of(len(known))

        def spread(channel: int) -> None:
            out = torch.from_numpy(probs[row, known.index(organs[channel])])
            interpolate_into(out, predicted[channel], given.source, grid, least)

        # What the network knows beside the structures in use is not asked for.
        wanted = [channel for channel, organ in enumerate(organs) if organ in known]
        if len(known) > MANY:
            needed = sum(bytes_written(predicted[c], given.source, grid, least) for c in wanted)
            check_memory(needed, str(ct.path or "CT"))
        deque(map_in_order(spread, wanted, torch.get_num_threads()), maxlen=0)

    def _run(self, name: str, array: npt.NDArray[np.float32], keep: Box | None) -> torch.Tensor:
        """Predict ``(organs, X, Y, Z)`` float16 with one network, on its own grid."""
        checkpoint, module = self._networks[name]
        preprocessing = checkpoint.preprocessing
        overlap = preprocessing.overlap if self.overlap is None else self.overlap
        if preprocessing.whole is not None and keep is not None:
            out = torch.zeros((len(checkpoint.organs), *array.shape), dtype=torch.float16)
            out[:, *keep] = self._run(name, array[keep], None)
            return out
        size = preprocessing.window_for(array.shape)
        plan = self._plans[name]
        while True:
            tiling = tile(array, size, overlap, keep)
            log.debug("%s: %d windows of %s over %s", name, tiling.n_windows, size, array.shape)
            try:
                return probabilities(
                    partial(forward, module.to(plan.device), self.dtype, self._flips(checkpoint)),
                    array,
                    tiling,
                    channels=checkpoint.out_channels,
                    softmax=checkpoint.activation == "softmax",
                    batch=plan.batch,
                    device=plan.device,
                    sums_on=plan.for_sums(sums_bytes(tiling, checkpoint.out_channels)),
                    workers=plan.workers,
                    fill=preprocessing.fill,
                )
            except (RuntimeError, MemoryError) as err:
                if not is_out_of_memory(err):
                    raise
                smaller = plan.smaller()
                window = preprocessing.smaller_window(size)
                if window is not None and (smaller is None or smaller.device != plan.device):
                    size = window
                elif smaller is not None:
                    plan = smaller
                else:
                    raise
                log.warning("%s: %s; going on with %s, windows of %s", name, err, plan, size)
            # After the handler, so that the failed attempt's memory is free.
            module.to(plan.device)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            if plan.device == self.device:
                self._plans[name] = plan  # for the next CT

    def _workers(self, names: list[str]) -> int:
        """Return how many networks run at once: all on a CPU, where a network is one pass.

        Threads that share one layer wait for each other at its end, and for whatever else
        the machine does; networks beside each other do not.
        """
        once = all(self._networks[name][0].preprocessing.whole is not None for name in names)
        if self.device.type != "cpu" or not once or len(self.organs) > MANY:
            return 1  # what a network needs beside its probabilities grows with its outputs
        return min(len(names), torch.get_num_threads())

    def _flips(self, checkpoint: Checkpoint) -> Flips:
        """Return one network's mirrored windows, along axes that it was trained with only."""
        trained = checkpoint.mirroring_axes
        if self._mirror == "trained":
            return flips_along(trained or ())
        axes = tuple(int(axis) for axis in self._mirror)
        return flips_along(axes if trained is None else [a for a in axes if a in trained])

    def _covered(self, names: list[str]) -> npt.NDArray[np.bool_]:
        return np.array(
            [[organ in self._networks[name][0].organs for organ in self.organs] for name in names]
        )

    def _leave_out(self, name: str, err: Exception) -> None:
        self.failures[name] = f"{type(err).__name__}: {err}"
        log.error("%s cannot be loaded and is left out: %s", name, err)


def flips_along(axes: Sequence[int]) -> Flips:
    """Return every set of ``axes`` (0 left-right, 1 back-front, 2 feet-head), the empty one first.

    Raises
    ------
    ValueError
        An axis that is none, or twice.
    """
    if len(set(axes)) < len(axes) or not set(axes) <= {0, 1, 2}:
        raise ValueError(f"mirror axes {tuple(axes)}: each of 0, 1, 2 once at most")
    dimensions = [axis + 2 for axis in sorted(axes)]
    return tuple(some for n in range(len(dimensions) + 1) for some in combinations(dimensions, n))


def forward(
    module: torch.nn.Module, dtype: torch.dtype, flips: Flips, windows: torch.Tensor
) -> torch.Tensor:
    """Return logits of windows, the mean over the windows mirrored by each of ``flips``.

    Parameters
    ----------
    dtype
        The network runs in it; more than one flip is summed in float32.
    windows
        ``(B, 1, x, y, z)`` in 0..1, axes nearest RAS.

    Returns
    -------
    Tensor
        ``(B, C, x, y, z)``, each flip turned back. A mirrored left kidney is still called
        left: averaging along axis 0 is for networks that were trained to do so.
    """

    def once(windows: torch.Tensor) -> torch.Tensor:
        if dtype == torch.float32:
            logits: torch.Tensor = module(windows)
            return logits
        windows = windows.contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast(windows.device.type, dtype):
            logits = module(windows)
        return logits

    logits = once(windows)
    if len(flips) == 1:
        return logits
    total = logits.float()
    for flip in flips[1:]:
        total = total + torch.flip(once(torch.flip(windows, flip)), flip)
    return total / len(flips)
