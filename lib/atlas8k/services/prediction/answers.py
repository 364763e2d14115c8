"""All that is asked of one CT under one set of networks, small enough to be kept.

Labels are made from the networks' own probabilities before these are kept as bytes, so
that an answer from the cache is the very one that the networks gave.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from atlas8k.attention.disagreement import pairwise_dice
from atlas8k.attention.explain import explanation
from atlas8k.attention.packed import pack, unpack
from atlas8k.attention.places import MOST_PLACES
from atlas8k.attention.quality_model import UNKNOWN, unknown_of
from atlas8k.attention.regions import Region
from atlas8k.attention.salient import Salient, SalientSettings, salient_regions
from atlas8k.attention.sizes import AttentionSizes
from atlas8k.core.errors import AttentionError, PredictionError
from atlas8k.core.findings import Finding
from atlas8k.core.selection import traits_of
from atlas8k.core.settings import Settings
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import Grid, Volume
from atlas8k.labels.checks import label_findings
from atlas8k.services.prediction.expected import Expected
from atlas8k.store.records import OrganScore

if TYPE_CHECKING:
    from atlas8k.models.predict import Prediction
    from atlas8k.models.sets import ServedSet


@dataclass(frozen=True, eq=False)
class Answers:
    """Labels, regions and sizes of one CT.

    Attributes
    ----------
    names
        Of the networks, in their order.
    labels
        ``(1 + networks, X, Y, Z)`` uint8 organ ids on :attr:`grid`: the ensemble's label,
        then each network's own.
    salient
        Attention sizes, salient masks and regions on the same grid.
    failures
        Networks that had no part in it, and why.
    familiar
        Whether the CT is like those the networks were trained on, as
        :func:`atlas8k.content.familiar.familiar` says it; empty in answers of releases that
        did not look.
    findings
        What anatomical rules have against the ensemble's label.
    expected
        Places to look at and predicted quality; ``None`` where nothing was learnt of the
        networks' errors, or another number of them took part.
    unknown
        Why there is no predicted quality, a line; empty where there is.
    knows
        Of each network the organs that it knows; ``None``: all know all.
    unloaded, short
        Those of `failures` that could not be loaded, and that were short of memory. Not
        packed: nothing is kept where a network failed.
    """

    names: tuple[str, ...]
    labels: npt.NDArray[np.uint8]
    salient: Salient
    failures: Mapping[str, str] = field(default_factory=dict)
    familiar: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    expected: Expected | None = None
    unknown: str = ""
    knows: tuple[tuple[str, ...], ...] | None = None
    unloaded: frozenset[str] = frozenset()
    short: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        prediction: Prediction,
        settings: SalientSettings,
        name: str,
        ct: Volume,
        served: ServedSet | None = None,
    ) -> Answers:
        """Return what a prediction says.

        Parameters
        ----------
        ct
            What was predicted.
        served
            The networks' set, for the ranges of its training CTs and what was learnt of its
            errors.

        Raises
        ------
        AttentionError
            Probabilities outside 0..1 or NaN; names the volume.
        """
        from atlas8k.content.familiar import familiar

        salient = salient_regions(
            prediction.probs, prediction.grid, settings, organs=prediction.organs, name=name
        )
        members = (None, *prediction.names)
        labels = np.stack([prediction.label(model) for model in members])
        looked = familiar(ct, labels, prediction.grid, served.ranges if served else None)
        learnt = served.quality if served else None
        return cls(
            prediction.names,
            labels,
            salient,
            dict(prediction.failures),
            looked,
            tuple(label_findings(labels[0], prediction.grid)),
            Expected.of(prediction, labels[0], ct, learnt),
            unknown_of(learnt, len(prediction.names)),
            _knows(prediction),
            prediction.unloaded,
            prediction.short,
        )

    @property
    def grid(self) -> Grid:
        """Grid of labels and masks: 1.5 mm, axes nearest RAS, cut to the patient."""
        return self.salient.grid

    @property
    def sizes(self) -> AttentionSizes:
        """Attention sizes, ml."""
        return self.salient.sizes

    def label_on(self, grid: Grid, model: str | None = None) -> npt.NDArray[np.uint8]:
        """Return a label map on another grid, as a rule the CT's.

        Parameters
        ----------
        model
            One network's own label; the ensemble's where ``None``.

        Raises
        ------
        PredictionError
            No such network had a part in it.
        """
        from atlas8k.models.regrid import nearest

        if model is not None and model not in self.names:
            reason = self.failures.get(model, f"there are {', '.join(self.names)}")
            raise PredictionError(f"network {model!r} made no prediction: {reason}")
        row = 0 if model is None else 1 + self.names.index(model)
        out: npt.NDArray[np.uint8] = nearest(self.labels[row], self.grid, grid)
        return out

    def attention_on(self, grid: Grid) -> npt.NDArray[np.uint8]:
        """Return salient regions on another grid: the id of the organ in doubt, 0 elsewhere."""
        from atlas8k.models.regrid import nearest

        out: npt.NDArray[np.uint8] = nearest(self.attention_label(), self.grid, grid)
        return out

    def attention_label(self) -> npt.NDArray[np.uint8]:
        """Return the regions on :attr:`grid`: the id of the organ in doubt, 0 elsewhere."""
        return self.salient.label() if self.expected is None else self.expected.places

    @property
    def regions(self) -> tuple[Region, ...]:
        """Regions to look at, the one most worth a look first."""
        if self.expected is None:
            return self.salient.regions[:MOST_PLACES]
        return self.expected.regions

    def voxels_of(self, region: Region) -> npt.NDArray[np.bool_]:
        """Return the voxels of one of :attr:`regions`, ``(X, Y, Z)`` bool on :attr:`grid`."""
        if self.expected is None:
            return self.salient.voxels_of(region)
        out = np.zeros(self.grid.shape, dtype=bool)
        part = self.expected.places[region.box]
        own = part == ORGAN_IDS[region.organ]
        # One that lies under those of other organs is drawn as theirs.
        out[region.box] = own if own.any() else part > 0
        return out

    def regions_on(self, grid: Grid) -> list[Region]:
        """Return :attr:`regions` in another grid's array index."""
        return [region.on(self.grid, grid) for region in self.regions]

    def noted(self, ct_grid: Grid, name: str) -> dict[str, Any]:
        """Return what is stored with the score: where to look on the CT, and :attr:`familiar`."""
        looked = {"familiar": dict(self.familiar)} if self.familiar else {}
        places = None if self.expected is None else self.expected.regions
        return {
            **explanation(self.salient, ct_grid, name, places),
            **looked,
            "findings": [one._asdict() for one in self.findings],
            **(
                {"quality": self.expected.as_dict()}
                if self.expected
                else {"quality_basis": self.unknown}
            ),
        }

    def traits(self) -> dict[str, Any]:
        """Return what lists are drawn by beside the ranking, see :mod:`atlas8k.core.selection`."""
        return traits_of(self.familiar.get("features", ()))

    def organ_scores(self) -> dict[str, OrganScore]:
        """Return what the ledger keeps: terms of Eq. 4 and the figures of every ranking."""
        sizes = self.sizes
        per_slice = sizes.per_slice_ml(self.grid.shape[2])
        alike = pairwise_dice(self.labels[1:], sizes.organs, self.knows)
        figures: dict[str, dict[str, float | None]] = {
            organ: {
                "salient": self.salient.salient_ml[organ],
                "per_slice": per_slice[organ],
                "pairwise_dice": None if (dice := alike[organ]) is None else 1.0 - dice,
                "epistemic_sum": sizes.mean_entropy_ml[organ],
                "findings": float(sum(one.organ == organ for one in self.findings)),
            }
            for organ in sizes.organs
        }
        if self.expected is not None:
            for organ in sizes.organs:
                figures[organ]["expected_error"] = self.expected.wrong_ml(organ)
        return {
            organ: OrganScore(
                sizes.attention_ml[organ],
                sizes.inconsistency_ml[organ],
                sizes.uncertainty_ml[organ],
                sizes.overlap_ml[organ],
                figures[organ],
            )
            for organ in sizes.organs
        }

    def packed(self) -> bytes:
        """Return it as bytes, for :meth:`unpacked`."""
        salient = self.salient
        meta = {
            "affine": self.grid.affine.tolist(),
            "names": self.names,
            "sizes": asdict(self.sizes),
            "salient_ml": salient.salient_ml,
            "regions": [region.as_dict() for region in salient.regions],
            "failures": dict(self.failures),
            "familiar": dict(self.familiar),
            "findings": [list(one) for one in self.findings],
            "expected": self.expected and self.expected.as_meta(),
            "unknown": self.unknown,
            "knows": self.knows,
        }
        maps = [self.labels, salient.mask.view(np.uint8)]
        if self.expected is not None:
            maps.append(self.expected.places[None])
        return pack(maps, meta)

    @classmethod
    def unpacked(cls, data: bytes, name: str) -> Answers:
        """Return what :meth:`packed` gave.

        Raises
        ------
        AttentionError
            The bytes are damaged or something else; names the volume.
        """
        maps, meta = unpack(data, name)
        try:
            names = tuple(meta["names"])
            sizes = AttentionSizes(**meta["sizes"])
            _, x, y, z = maps.shape
            grid = Grid((x, y, z), np.array(meta["affine"]))
            regions = tuple(Region.from_dict(fields) for fields in meta["regions"])
            n = 1 + len(names)
            told = meta["expected"]
            expected = told and Expected.from_meta(told, maps[-1])
            mask = maps[n : len(maps) - bool(told)].view(np.bool_)
            if len(mask) != len(sizes.organs):
                raise ValueError(f"{len(mask)} masks of {len(sizes.organs)} organs")
            salient = Salient(grid, sizes, mask, regions, dict(meta["salient_ml"]))
            looked = dict(meta.get("familiar", {}))
            found = tuple(Finding(*one) for one in meta["findings"])
            failures = dict(meta["failures"])
            why = str(meta.get("unknown", "" if told else UNKNOWN))
            knows = meta.get("knows") and tuple(tuple(organs) for organs in meta["knows"])
            return cls(names, maps[:n], salient, failures, looked, found, expected, why, knows)
        except (KeyError, TypeError, ValueError) as err:
            raise AttentionError(name, f"these are packed maps, but no answers ({err})") from err


def _knows(prediction: Prediction) -> tuple[tuple[str, ...], ...] | None:
    """Return the organs that each network knows; ``None`` where all know all."""
    if prediction.covered.all():
        return None
    return tuple(
        tuple(organ for organ, has in zip(prediction.organs, row, strict=True) if has)
        for row in prediction.covered
    )


def salient_settings(settings: Settings) -> SalientSettings:
    """Return what counts as salient, from the app's settings."""
    return SalientSettings(
        inconsistency=settings.inconsistency_threshold,
        uncertainty=settings.uncertainty_threshold,
        opening_mm=settings.opening_mm,
        min_ml=settings.min_region_ml,
        overlap=settings.overlap_term,
    )
