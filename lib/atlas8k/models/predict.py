"""One CT through the networks: probabilities of nine organs on one grid."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from atlas8k.errors import CheckpointError, PredictionError
from atlas8k.models.body import Box, body_box, box_on
from atlas8k.models.checkpoint import Checkpoint, network
from atlas8k.models.ensemble import EnsembleSettings, label_map, mean_probability
from atlas8k.models.forward import flips_along, forward
from atlas8k.models.preprocess import intensity_key, prepare
from atlas8k.models.regrid import interpolate_into, nearest
from atlas8k.models.windows import probabilities, tile
from atlas8k.organs import N_ORGANS, ORGANS
from atlas8k.volume import Grid, Volume

if TYPE_CHECKING:
    from atlas8k.attention import AttentionSizes
    from atlas8k.models.store import ServedSet

GRID_MM = 1.5
"""Spacing of the grid on which networks of different spacing meet (reference code)."""
PRECISIONS = ("float32", "bfloat16", "float16")

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the networks say about one CT.

    Attributes
    ----------
    grid
        Axes nearest RAS, 1.5 mm, cut to the patient. Outside every probability is 0.
    probs
        ``(models, organs, X, Y, Z)`` float16 in [0, 1], organs in id order 1 to 9.
    names
        Of the models, in their order.
    covered
        ``(models, organs)`` bool: whether the network has an output for the organ;
        ``probs`` is 0 where it has none.
    failures
        Networks that could not take part, and why. A score of such a prediction is not
        one of the whole set.
    """

    grid: Grid
    probs: npt.NDArray[np.float16]
    names: tuple[str, ...]
    covered: npt.NDArray[np.bool_]
    failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def organs(self) -> tuple[str, ...]:
        """Names on the organ axis."""
        return tuple(organ.name for organ in ORGANS)

    def mean(self) -> npt.NDArray[np.float32]:
        """Mean over the networks that know the organ: ``(organs, X, Y, Z)`` float32."""
        out = np.zeros((N_ORGANS, *self.grid.shape), dtype=np.float32)
        for organ in range(N_ORGANS):
            mean = mean_probability(self.probs, self.covered, organ)
            if mean is not None:
                out[organ] = mean.numpy()
        return out

    def label(
        self, model: str | None = None, settings: EnsembleSettings | None = None
    ) -> npt.NDArray[np.uint8]:
        """Label map on :attr:`grid`: ``(X, Y, Z)`` uint8, organ ids.

        Parameters
        ----------
        model
            One network's own label; the ensemble's where ``None``.

        Raises
        ------
        PredictionError
            No such network in this prediction.
        """
        members = slice(None)
        if model is not None:
            if model not in self.names:
                reason = self.failures.get(model, f"there are {', '.join(self.names)}")
                raise PredictionError(f"network {model!r} made no prediction: {reason}")
            index = self.names.index(model)
            members = slice(index, index + 1)
        ids = [organ.id for organ in ORGANS]
        return label_map(self.probs[members], self.covered[members], ids, settings)

    def label_on(
        self, grid: Grid, model: str | None = None, settings: EnsembleSettings | None = None
    ) -> npt.NDArray[np.uint8]:
        """Label map on another grid, as a rule the CT's: ``grid.shape`` uint8.

        Nearest neighbour from :attr:`grid`, 0 outside it. As :meth:`label` otherwise.
        """
        out: npt.NDArray[np.uint8] = nearest(self.label(model, settings), self.grid, grid)
        return out

    def sizes(self, **settings: Any) -> AttentionSizes:
        """Attention sizes in ml, :func:`atlas8k.attention.attention_sizes`."""
        from atlas8k.attention import attention_sizes

        return attention_sizes(self.probs, self.grid.voxel_ml, **settings)


class Predictor:
    """Networks in memory, ready for one CT after another.

    Parameters
    ----------
    checkpoints
        Networks by name, or a served set, which is loaded.
    device
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
    overlap
        Of the windows, in place of each checkpoint's own.
    grid_mm
        Spacing of the grid of :attr:`Prediction.probs`.
    precision
        Of the networks. With ``"float32"`` (on a GPU cuDNN's TF32) labels are those of a
        plain prediction. ``"bfloat16"`` is two to three times faster on a CPU with AMX,
        but moved single organs of single networks to a DSC of 0.991 with the float32
        label, ``"float16"`` to 0.997. Sums and probabilities are float32 always.
    batch
        Windows at once.
    skip_air
        Leave out windows that show nothing of the patient.
    mirror_axes
        Test-time augmentation: mean of the logits over windows mirrored along each set of
        these axes of RAS (0 left-right, 1 back-front, 2 feet-head); three cost eight
        times. 0 only for networks trained with it.

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
        batch: int = 1,
        skip_air: bool = True,
        mirror_axes: Sequence[int] = (),
    ) -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
        self.device = torch.device(device)
        self.overlap = overlap
        self.grid_mm = grid_mm
        self.batch = batch
        self.skip_air = skip_air
        self._flips = flips_along(mirror_axes)
        self.dtype: torch.dtype = getattr(torch, precision)
        self.failures: dict[str, str] = {}
        if not isinstance(checkpoints, Mapping):
            served = checkpoints
            checkpoints = served.load()
            self.failures.update(served.failures)
        self._networks: dict[str, tuple[Checkpoint, torch.nn.Module]] = {}
        for name, checkpoint in checkpoints.items():
            try:
                module = network(checkpoint, self.device)
            except Exception as err:  # no such device, out of memory
                self._out(name, err)
                continue
            if self.dtype != torch.float32:  # measured: no gain for float32 on a CPU
                module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
            self._networks[name] = (checkpoint, module)
        if not self._networks:
            raise CheckpointError("models", f"no network could be loaded: {self.failures}")

    @property
    def names(self) -> tuple[str, ...]:
        """Of the networks that are loaded, in the order of predictions."""
        return tuple(self._networks)

    def predict(self, ct: Volume) -> Prediction:
        """Predict one CT.

        Parameters
        ----------
        ct
            ``(X, Y, Z)``, HU, any orientation, spacing and shape.

        Raises
        ------
        PredictionError
            Every network failed.
        """
        box = body_box(ct)
        working = ct.grid.working(self.grid_mm)
        grid = working.crop(box_on(box, ct.grid, working)) if self.skip_air else working
        probs = np.zeros((len(self._networks), N_ORGANS, *grid.shape), dtype=np.float16)
        failures: dict[str, str] = {}
        groups: dict[Any, list[str]] = {}
        for name, (checkpoint, _) in self._networks.items():
            groups.setdefault(intensity_key(checkpoint.preprocessing), []).append(name)
        order = {name: row for row, name in enumerate(self._networks)}
        for names in groups.values():
            array, source = prepare(ct, self._networks[names[0]][0].preprocessing)
            keep = box_on(box, ct.grid, source) if self.skip_air else None
            for name in names:
                try:
                    found = self._run(name, array, keep)
                except Exception as err:  # whatever a network raises, the others go on
                    failures[name] = f"{type(err).__name__}: {err}"
                    log.exception("%s failed on %s and is left out", name, ct.path or "a CT")
                    continue
                organs = self._networks[name][0].organs
                for value, organ in zip(found, organs, strict=True):
                    row = torch.from_numpy(probs[order[name], _row(organ)])
                    interpolate_into(row[None], value[None], source, grid)
        if len(failures) == len(self._networks):
            raise PredictionError(f"{ct.path or 'CT'}: every network failed: {failures}")
        worked = [name for name in self._networks if name not in failures]
        if failures:
            probs = probs[[order[name] for name in worked]]
        return Prediction(
            grid, probs, tuple(worked), self._covered(worked), {**self.failures, **failures}
        )

    def _run(self, name: str, array: npt.NDArray[np.float32], keep: Box | None) -> torch.Tensor:
        """Probabilities ``(organs, X, Y, Z)`` float16 of one network on its own grid.

        Out of memory, half as many windows at once are tried, at last the CPU.
        """
        checkpoint, module = self._networks[name]
        preprocessing = checkpoint.preprocessing
        overlap = preprocessing.overlap if self.overlap is None else self.overlap
        tiling = tile(array, preprocessing.window_size, overlap, keep)
        log.debug("%s: %d windows over %s", name, tiling.n_windows, array.shape)
        device, batch = self.device, self.batch
        while True:
            try:
                return probabilities(
                    partial(forward, module.to(device), self.dtype, self._flips),
                    array,
                    tiling,
                    channels=checkpoint.out_channels,
                    softmax=checkpoint.activation == "softmax",
                    batch=batch,
                    device=device,
                    fill=preprocessing.fill,
                )
            except torch.OutOfMemoryError as err:
                if batch > 1:
                    batch //= 2
                elif device.type != "cpu":
                    device = torch.device("cpu")
                else:
                    raise
                log.warning("%s: %s; going on with batch %d on %s", name, err, batch, device)
            # After the handler, so that what failed no longer holds memory there.
            module.to(device)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _covered(self, names: list[str]) -> npt.NDArray[np.bool_]:
        covered = np.zeros((len(names), N_ORGANS), dtype=bool)
        for row, name in enumerate(names):
            covered[row, [_row(organ) for organ in self._networks[name][0].organs]] = True
        return covered

    def _out(self, name: str, err: Exception) -> None:
        self.failures[name] = f"{type(err).__name__}: {err}"
        log.error("%s cannot be loaded and is left out: %s", name, err)


def _row(organ: str) -> int:
    return next(o.id for o in ORGANS if o.name == organ) - 1
