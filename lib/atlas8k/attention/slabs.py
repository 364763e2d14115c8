"""Run the kernels over one volume, slab by slab in threads, and check every value.

Slabs along X are independent, so memory beyond the input is what the outputs take and,
where the networks come as separate arrays, one slab of all networks a thread. Threads are
plain ones: the kernels release the interpreter lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.attention.equations import OVERLAP_ANY, OVERLAP_OWN, OverlapMode
from atlas8k.attention.probabilities import (
    FLOOR,
    LEVELS,
    Probs,
    Quantised,
    as_networks,
    check_values,
    code_search,
    entropies,
)
from atlas8k.attention.regions import Box
from atlas8k.core.errors import AttentionError
from atlas8k.core.memory import sparse_zeros
from atlas8k.core.structures import ORGAN_NAMES, containers

SILENT = 1e-6
"""A run of voxels where no network has more is left out, and its worst case reported."""

SLAB_ELEMENTS = 1 << 22
"""Elements of one unit of work: enough to hide a thread's hand-over, 8 MiB of float16."""

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Source:
    """Probabilities of one volume as the kernels read them.

    Attributes
    ----------
    networks
        One array ``(organs, X, Y, Z)`` a network: float16, float32, float64, or uint8
        codes.
    whole
        All networks as one C-ordered array ``(models, organs, voxels)`` where there is
        one, so that nothing need be copied.
    name
        The volume, for messages.
    containers
        By organ the one that it lies within, see :func:`~atlas8k.core.structures.containers`.
    """

    networks: tuple[Array, ...]
    whole: Array | None
    name: str
    containers: tuple[int, ...]

    @classmethod
    def of(cls, probs: Probs | Quantised, organs: Sequence[str], name: str) -> Source:
        """Check shapes and dtypes, see :func:`~atlas8k.attention.probabilities.as_networks`."""
        if isinstance(probs, Quantised):
            if probs.codes.shape[1] != len(organs):
                raise AttentionError(
                    name, f"codes of {probs.codes.shape[1]} organs where {len(organs)} are expected"
                )
            array: Probs = probs.codes
            networks = tuple(probs.codes)
        else:
            array = probs
            networks = as_networks(probs, organs, name)
        whole = None
        if isinstance(array, np.ndarray) and array.flags.c_contiguous:
            whole = _kernel_form(array.reshape(array.shape[0], array.shape[1], -1), copy=False)
        return cls(networks, whole, name, containers(organs))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along X, Y and Z."""
        _, x, y, z = self.networks[0].shape
        return x, y, z

    @property
    def organs(self) -> int:
        """Length of the organ axis."""
        return int(self.networks[0].shape[0])

    def slabs(self) -> Iterator[tuple[int, int]]:
        """Yield ranges of X, small enough to spread over the threads."""
        x, y, z = self.shape
        row = y * z * len(self.networks) * self.organs
        thick = max(1, min(SLAB_ELEMENTS // row, -(-x // workers())))
        for begin in range(0, x, thick):
            yield begin, min(x, begin + thick)

    def block(self, begin: int, end: int) -> tuple[Array, int, int]:
        """Return an array ``(models, organs, voxels)`` that holds a slab, and its range in it."""
        if self.whole is not None:
            row = self.shape[1] * self.shape[2]
            return self.whole, begin * row, end * row
        slab = np.stack([network[:, begin:end] for network in self.networks])
        block = _kernel_form(slab.reshape(*slab.shape[:2], -1), copy=True)
        return block, 0, block.shape[2]


def _kernel_form(block: Array, copy: bool) -> Any:
    if block.dtype == np.float64:  # the kernels are float32; whole volumes are not copied
        return block.astype(np.float32).view(np.uint32) if copy else None
    unsigned = {np.float16: np.uint16, np.float32: np.uint32, np.uint8: np.uint8}
    return block.view(unsigned[block.dtype.type])


@dataclass(frozen=True)
class _Form:
    """Tables with which the kernels read one element type."""

    p_table: npt.NDArray[np.float32]
    h_table: npt.NDArray[np.float32]
    top: Any

    def element(self, probability: float) -> Any:
        """Return the largest element that stands for no more than ``probability``."""
        if isinstance(self.top, np.uint32):
            return np.float32(probability).view(np.uint32)
        return type(self.top)(np.searchsorted(self.p_table, probability, side="right") - 1)


@cache
def form_of(kind: str) -> _Form:
    """Return tables by element type: ``"uint8"``, ``"uint16"`` or ``"uint32"``."""
    if kind == "uint8":
        return _Form(LEVELS.astype(np.float32), entropies(LEVELS), np.uint8(255))
    if kind == "uint16":
        halves = np.arange(0x3C01, dtype=np.uint16).view(np.float16)
        return _Form(halves.astype(np.float32), entropies(halves), np.uint16(0x3C00))
    none = np.zeros(1, dtype=np.float32)
    return _Form(none, none, np.float32(1).view(np.uint32))


@dataclass(frozen=True, eq=False)
class Swept:
    """Results of one pass over a volume.

    Attributes
    ----------
    table
        ``(organs, 8)`` float64 in voxels: std, entropy, overlap per network and across,
        largest Eq. 4, voxels left out, the most they can have held of Eq. 4, and the entropy
        of the networks' mean.
    flags, heat
        ``(organs, X, Y, Z)`` uint8 where asked for, see the constants above.
    """

    table: npt.NDArray[np.float64]
    flags: npt.NDArray[np.uint8] | None
    heat: npt.NDArray[np.uint8] | None


def sweep(
    source: Source,
    *,
    across: bool = False,
    limits: tuple[float, float] = (0.1, 0.05),
    flags: bool = False,
    heat: bool = False,
) -> Swept:
    """Make one pass over the volume.

    Parameters
    ----------
    across
        Whether Eq. 4 takes the overlap across networks.
    limits
        Thresholds of std and entropy for the flags; salient is what lies above.
    flags, heat
        Whether to make these maps.

    Raises
    ------
    AttentionError
        A value is NaN or outside 0..1; names the volume.
    """
    from atlas8k.attention import kernels

    voxels = int(np.prod(source.shape))
    maps = [
        sparse_zeros((source.organs, voxels if wanted else 0), np.uint8) for wanted in (flags, heat)
    ]
    thresholds = np.array(limits, dtype=np.float32)
    within = np.array(source.containers, dtype=np.int64)

    def run(block: Array, begin: int, end: int, at: int) -> tuple[int, Array]:
        form = form_of(block.dtype.name)
        sums = np.zeros((source.organs, 8))
        bad = kernels.sweep(
            *(block, begin, end, form.top, form.element(SILENT), form.p_table, form.h_table),
            *(across, within, thresholds, sums, maps[0], maps[1], at),
        )
        return bad, sums

    tables = _each_slab(source, run)
    table = np.sum(tables, axis=0)
    table[:, 4] = np.max([t[:, 4] for t in tables], axis=0)
    shaped = [m.reshape(-1, *source.shape) if m.size else None for m in maps]
    return Swept(table, shaped[0], shaped[1])


def overlap_bit(mode: OverlapMode) -> int:
    """Return the flag of Eq. 3 in one reading."""
    return OVERLAP_ANY if mode == "any" else OVERLAP_OWN


def deviation_and_entropy(source: Source, organ: int, box: Box) -> npt.NDArray[np.float32]:
    """Return Eq. 1 plus Eq. 2 of one organ within a box, float32."""
    from atlas8k.attention import kernels

    values = np.stack([network[organ][box] for network in source.networks])
    if values.dtype.kind == "f" and check_values(values, source.name):
        values = values.clip(0, 1) + 0
    block = _kernel_form(values.reshape(len(values), 1, -1), copy=True)
    form = form_of(block.dtype.name)
    out = np.empty(block.shape[2], dtype=np.float32)
    kernels.deviation_and_entropy(block, form.p_table, form.h_table, out)
    return out.reshape(values.shape[1:])


def encode(source: Source, floor: float) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    """Return codes ``(models, organs, X, Y, Z)`` and sums lost, see :class:`Quantised`."""
    from atlas8k.attention import kernels

    models, voxels = len(source.networks), int(np.prod(source.shape))
    codes = np.empty((models, source.organs, voxels), dtype=np.uint8)
    cells, edges = code_search()

    def run(block: Array, begin: int, end: int, at: int) -> tuple[int, Array]:
        form = form_of(block.dtype.name)
        lost = np.zeros((source.organs, 2))
        bad = kernels.encode(
            *(block, begin, end, form.top, np.float32(floor), form.p_table, form.h_table),
            *(cells, edges, codes, lost, at),
        )
        return bad, lost

    lost = _each_slab(source, run)
    return codes.reshape(models, source.organs, *source.shape), np.sum(lost, axis=0)


def quantise(
    probs: Probs,
    *,
    floor: float = FLOOR,
    organs: Sequence[str] = ORGAN_NAMES,
    name: str = "probabilities",
) -> Quantised:
    """Return the nearest codes of one volume's probabilities.

    Parameters
    ----------
    probs
        ``(models, organs, X, Y, Z)`` float16 or float32 in 0..1, or one array a network.
    floor
        Where no network has more than this for an organ, the codes are 0. At 0 every
        probability keeps its nearest code.
    organs, name
        As in :func:`~atlas8k.attention.attention_sizes`.

    Raises
    ------
    AttentionError
        As :func:`~atlas8k.attention.attention_sizes`, and for a floor outside 0..0.1.
    """
    if not 0 <= floor <= 0.1:
        raise AttentionError(name, f"a floor of {floor}; give a probability from 0 to 0.1")
    codes, lost = encode(Source.of(probs, organs, name), floor)
    return Quantised(codes, lost, floor)


def workers() -> int:
    """Return the number of threads: one a core this process may use."""
    return len(os.sched_getaffinity(0))


def _each_slab(
    source: Source, kernel: Callable[[Array, int, int, int], tuple[int, Array]]
) -> list[Array]:
    """Run a kernel on every slab, in threads; on a value outside 0..1, clip it or raise.

    Parameters
    ----------
    kernel
        Takes a block, its range of voxels, and the volume's index of the first of these;
        gives whether a value is no probability, and the result.
    """
    row = source.shape[1] * source.shape[2]

    def run_checked(span: tuple[int, int]) -> Array:
        bad, result = kernel(*source.block(*span), span[0] * row)
        if bad:
            values = np.stack([network[:, slice(*span)] for network in source.networks])
            check_values(values, source.name)
            clipped = values.clip(0, 1) + 0  # and no negative zero
            block = _kernel_form(clipped.reshape(*values.shape[:2], -1), copy=True)
            bad, result = kernel(block, 0, block.shape[2], span[0] * row)
        return result

    spans = list(source.slabs())
    if min(workers(), len(spans)) == 1:
        return [run_checked(span) for span in spans]
    with ThreadPoolExecutor(min(workers(), len(spans))) as pool:
        return list(pool.map(run_checked, spans))
