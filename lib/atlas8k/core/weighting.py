"""Weights of the networks in the ensemble, for all organs or for single ones.

Written as ``unet=1,swin_unetr=0.5,nnunet:pancreas=2``: a network counts 1 by default,
``network=w`` sets its weight for all organs, ``network:organ=w`` for one. The more specific
one counts, in any order.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from atlas8k.core.errors import SettingsError
from atlas8k.core.structures import ORGAN_NAMES

EXAMPLE = "unet=1,swin_unetr=0.5,nnunet:pancreas=2"


@dataclass(frozen=True)
class Weights:
    """Weights of networks, by network and organ; all equal where empty.

    Parameters
    ----------
    entries
        Weight by ``(network, organ)``; an organ of ``None`` stands for all of them.

    Raises
    ------
    SettingsError
        From :meth:`parse`: an unknown organ, a weight that is no number, one given twice.
    """

    entries: Mapping[tuple[str, str | None], float] = field(
        default_factory=lambda: MappingProxyType({})
    )

    @classmethod
    def parse(cls, text: str) -> Weights:
        """Parse weights as typed; an empty text means equal ones."""
        entries: dict[tuple[str, str | None], float] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            left, sign, value = part.partition("=")
            network, colon, name = (word.strip() for word in left.partition(":"))
            if not sign or not network or (colon and not name):
                raise SettingsError(f"ensemble weights: {part!r} is not of the form {EXAMPLE}")
            if colon and name not in ORGAN_NAMES:
                near = difflib.get_close_matches(name, ORGAN_NAMES, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise SettingsError(
                    f"ensemble weights: there is no organ {name!r}{hint} "
                    f"Organs: {', '.join(ORGAN_NAMES)}"
                )
            key = (network, name if colon else None)
            if key in entries:
                raise SettingsError(f"ensemble weights: {left.strip()} is given twice")
            entries[key] = _weight(part, value)
        return cls(MappingProxyType(entries))

    def of(self, network: str, organ: str) -> float:
        """Return the weight of a network for an organ."""
        general = self.entries.get((network, None), 1.0)
        return self.entries.get((network, organ), general)

    def matrix(self, networks: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return the weights ``(networks, organs)`` float64, organs in id order."""
        return np.array(
            [[self.of(network, organ) for organ in ORGAN_NAMES] for network in networks]
        )

    def check(self, networks: Iterable[str]) -> None:
        """Check that they fit a set of networks.

        Raises
        ------
        SettingsError
            A network is none of these, or all of them have weight 0 for an organ.
        """
        networks = list(networks)
        unknown = sorted({name for name, _ in self.entries} - set(networks))
        if unknown:
            raise SettingsError(
                f"ensemble weights: there is no network {', '.join(unknown)}; "
                f"served are {', '.join(networks)}"
            )
        ignored = ~self.matrix(networks).any(axis=0)
        if ignored.any():
            organs = [
                name for name, is_ignored in zip(ORGAN_NAMES, ignored, strict=True) if is_ignored
            ]
            raise SettingsError(
                f"ensemble weights: every network counts 0 for {', '.join(organs)}, "
                "which would never be labeled"
            )

    def __str__(self) -> str:
        """Return the weights as typed, sorted: equal weights make equal texts."""
        rows = sorted((network, organ or "", w) for (network, organ), w in self.entries.items())
        return ",".join(f"{n}{':' * bool(organ)}{organ}={w:g}" for n, organ, w in rows)


def _weight(part: str, value: str) -> float:
    try:
        weight = float(value)
    except ValueError:
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise SettingsError(f"ensemble weights: {part!r}: a weight is a number from 0")
    return weight
