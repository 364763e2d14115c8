"""The phantoms on which rankings and error detection are judged: a fixed mix of difficulty.

Two cases in five look like those that networks are trained on; the others lie on the way
to the shifted setting, three in twenty at each quarter of it. A quarter of all are cut off
by the field of view. What a case is follows from its number alone. The names are part of
the random seed, so that no phantom here is one of another setting, whatever its seed.
"""

from __future__ import annotations

from dataclasses import fields, replace
from types import MappingProxyType

from abdomen_phantom import SHIFTED, STANDARD, Setting

SHARES: tuple[float, ...] = (
    *(0.0, 0.25, 0.5, 0.75, 1.0, 0.0, 0.0, 0.25, 0.0, 0.5),
    *(0.75, 0.0, 1.0, 0.0, 0.25, 0.5, 0.0, 0.75, 0.0, 1.0),
)
"""How far case ``i`` (modulo 20) is on the way from the standard to the shifted setting."""

CUT_OFF = 0.25
"""Probability that the field of view cuts a patient off."""


def between(share: float) -> Setting:
    """Return a setting on the way from the standard one (0) to the shifted one (1).

    Every number and both ends of every range are interpolated linearly.

    Raises
    ------
    ValueError
        A share outside 0..1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"a share lies in 0..1, {share} does not")
    values: dict[str, object] = {}
    for name in (one.name for one in fields(Setting)):
        low, high = getattr(STANDARD, name), getattr(SHIFTED, name)
        if isinstance(low, float):
            values[name] = low + share * (high - low)
        elif isinstance(low, tuple):
            values[name] = tuple(a + share * (b - a) for a, b in zip(low, high, strict=True))
    hard = {**STANDARD.hard_cases, "cut_off_field_of_view": CUT_OFF}
    return replace(
        STANDARD,
        name=f"mix_{round(100 * share):03d}",
        version=1,
        hard_cases=MappingProxyType(hard),
        **values,  # type: ignore[arg-type]
    )


MIX: tuple[Setting, ...] = tuple(between(share) for share in SHARES)


def mix_setting(number: int) -> Setting:
    """Return the setting of case ``number``, from 0 up."""
    return MIX[number % len(MIX)]
