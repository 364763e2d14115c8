"""Contrast phase of a CT, from HU in the organs that were predicted in it.

Blood and kidneys say it: unenhanced both are below 75 HU; in the arterial phase the aorta is
far brighter than the cava; later both agree, and the kidneys stay bright while blood fades.
HU are textbook ranges. Where they say two things, or too little was predicted, it is unsure.
"""

from __future__ import annotations

from collections.abc import Mapping

NON_CONTRAST, ARTERIAL, PORTAL, DELAYED = "non-contrast", "arterial", "portal-venous", "delayed"
UNSURE = "unsure"

PLAIN_HU, ENHANCED_HU = 70.0, 85.0
"""Unenhanced blood is 30 to 60 HU, a kidney 25 to 40; enhanced ones are above 85."""
ARTERIAL_HU, ARTERIAL_GAP_HU = 220.0, 50.0
"""Aorta alone, where no cava was predicted, and its lead over the cava in an arterial phase."""
PORTAL_LIVER_HU, PORTAL_AORTA_HU = 90.0, 190.0
"""A liver this bright, with blood no brighter than this, is portal-venous whatever the cava
shows: blood of the legs comes back unenhanced."""
LATE_GAP_HU, EARLY_GAP_HU = 45.0, 30.0
"""Lead of the kidneys over the aorta in a delayed phase, and before it."""
DELAYED_AORTA_HU = 130.0
"""Blood is above this in most portal-venous CTs, and below it in all delayed ones."""


def estimate_phase(hu: Mapping[str, float | None]) -> str:
    """Return the contrast phase that HU of organs speak for.

    Parameters
    ----------
    hu
        Median HU of ``aorta``, ``postcava``, ``kidneys`` and ``liver``; ``None`` where too
        little of it was predicted.
    """
    aorta, cava, kidneys = (hu.get(name) for name in ("aorta", "postcava", "kidneys"))
    known = [value for value in (aorta, kidneys) if value is not None]
    if not known:
        return UNSURE
    if max(known) < PLAIN_HU:
        return NON_CONTRAST
    if max(known) < ENHANCED_HU or aorta is None:
        return UNSURE
    lead = cava and aorta - cava
    if lead is None and aorta > ARTERIAL_HU:
        return ARTERIAL
    if lead is not None and lead > 0.8 * ARTERIAL_GAP_HU:
        if aorta < PORTAL_AORTA_HU and (hu.get("liver") or 0.0) > PORTAL_LIVER_HU:
            return PORTAL
        return ARTERIAL if lead > ARTERIAL_GAP_HU else UNSURE
    over = 0.0 if kidneys is None else kidneys - aorta
    if over > LATE_GAP_HU and aorta < DELAYED_AORTA_HU:
        return DELAYED
    return PORTAL if over < EARLY_GAP_HU or aorta > DELAYED_AORTA_HU else UNSURE
