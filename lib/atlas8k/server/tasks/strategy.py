"""Strategies of active learning: which volume an annotator or reviewer gets next."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, replace
from typing import Any, Literal

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from atlas8k.core.errors import CheckpointError
from atlas8k.core.selection import DRAWN
from atlas8k.core.settings import Settings
from atlas8k.core.structures import ORGAN_NAMES, find_organ
from atlas8k.labels.submission_diff import ALL
from atlas8k.server.access import REVIEWER, holder, may_review
from atlas8k.server.blind import seen_ledger
from atlas8k.services.context import Context, message
from atlas8k.services.errors import ConflictError, RequestError
from atlas8k.store import BLIND, Holder, Sample

logger = logging.getLogger(__name__)

Name = Literal["attention", "first", "random", "random_foreground", "stratified", "review"]
ALL_LOOKED_AT = "all_looked_at"
"""Option of a sample: its annotator will look at every organ, so that those that come back as
they went out are right. 3D Slicer can say nothing with the label itself."""
AUDIT = "drawn at random among low-ranked volumes, to see what errors are left there"
NOT_DRAWN = "by the ranking: until every volume has a score nothing is drawn by"
BACK = "to go on with it, take it by name on the page /atlas8k/cases"
PATIENCE_S = 10.0
"""Labels in the folder are checked before their CTs are handed out, for so long at most."""
DESCRIPTIONS: dict[Name, str] = {
    "attention": "The volume with the largest attention size: the likeliest to be wrong",
    "first": "By name",
    "random": "In an order drawn once",
    "random_foreground": "In an order drawn once a round, CTs first in which an organ is predicted",
    "stratified": "By class of the worst organ and by diversity, the rest by a noisy ranking",
    "review": "For reviewers: conflicts, disputes, second readings, samples",
}


class LedgerStrategy(Strategy):
    """The ledger picks a volume that nobody else holds and leases it to who asks, in one step.

    By strategy `review` it is the case that has waited longest for a reviewer. What the reviewer
    submits on it takes the case over: it is current, and the open questions are answered by it.
    """

    def __init__(self, context: Context, name: Name) -> None:
        super().__init__(DESCRIPTIONS[name])
        self._context, self._name = context, name

    def info(self) -> dict[str, Any]:
        """Return what clients show; ``config`` has an option that they send with a request."""
        return {**super().info(), "config": {ALL_LOOKED_AT: False}}

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Pick and lease.

        Parameters
        ----------
        request
            ``client_id``; ``all_looked_at``: see :data:`ALL_LOOKED_AT`. But for `review`:
            ``organ``: rank by this organ alone; ``source``: volumes of this source dataset only.

        Returns
        -------
        dict or None
            ``id`` and why it was this one: ``attention_ml``, ``rank`` of ``ranked``,
            ``organs`` with the largest attention first, ``model_version`` that it was
            ranked by, ``selection``: how the list was drawn, round and budget, ``message``;
            ``audit``: it was drawn at random to see what errors are left; ``given_back``: what
            one had until now; ``explanation``: organs and regions in order with the slice to
            open. By `review` also ``reviews``: the questions; ``submissions``: those in question
            and current. ``None`` when nothing is left.

        Raises
        ------
        HTTPException
            403: who asks for a review is no reviewer.
        ConflictError
            The first volumes of the list have labels that are still being checked.
        UpstreamError
            The archive that the volumes come from does not answer.
        """
        if self._name == "review" and not may_review():
            raise HTTPException(403, f"strategy review is for role {REVIEWER}")
        context = self._context
        context.reach()
        context.sync()
        try:
            model_version: str | None = context.model_version()
        except CheckpointError as err:
            # Annotators go on without an order; who runs the server finds this in the log.
            level = logging.ERROR if context.settings.networks else logging.DEBUG
            logger.log(level, "no networks, samples are not ranked: %s", err)
            model_version = None
        looked_at = looking_at(request)
        given_back: tuple[str, ...] = ()
        until = time.monotonic() + PATIENCE_S
        while True:
            sample = self._pick(request, model_version, looked_at)
            if sample is None:
                return None
            given_back += sample.given_back
            if context.bring(sample.volume, holder(request.get("client_id"))):
                break
            checked, total = context.labels_checked()
            if total and time.monotonic() > until:
                raise ConflictError(
                    "the next CTs of the list have labels already, which are being checked "
                    f"({checked} of {total} so far); ask again in a moment"
                )
        reply = self._reply(replace(sample, given_back=given_back), model_version)
        if self._name == "review":
            reply |= self._questions(sample.volume)
        return {**reply, "looked_at": looked_at}

    def _pick(
        self, request: dict[str, Any], model_version: str | None, looked_at: str | None
    ) -> Sample | None:
        ledger, who = self._context.ledger, holder(request.get("client_id"))
        if self._name == "review":
            return ledger.next_review(holder=who, model_version=model_version, looked_at=looked_at)
        return ledger.next_sample(
            holder=who,
            strategy=self._name,
            model_version=model_version,
            organ=organ(request.get("organ")),
            source=text("source", request.get("source")),
            looked_at=looked_at,
            kept=kept_from(who, self._context.settings),
            # Who may review can see which they are.
            gold_percent=0 if may_review() else self._context.settings.gold_percent,
        )

    def _questions(self, volume: str) -> dict[str, Any]:
        """Return what a reviewer is to decide of a volume."""
        ledger = self._context.ledger
        questions = ledger.reviews(volume)
        asked = {n for question in questions for n in (question.submission, question.other)}
        return {
            "reviews": [asdict(question) for question in questions],
            "submissions": [
                {"id": one.id, "holder": one.holder, "minutes": one.minutes}
                for one in ledger.submissions(volume)
                if one.id in asked
            ],
        }

    def _reply(self, sample: Sample, model_version: str | None) -> dict[str, Any]:
        reply = sample.as_dict()
        reply["id"] = reply.pop("volume")
        reply["model_signature"] = reply["model_version"]  # its name before 0.2
        # The route adds what the datastore knows under the same key.
        del reply["strategy"]
        if not may_review() and (budget := seen_ledger().budget()) is not None:
            # As it stands to who sees nothing of others' gold cases.
            over = budget.reviewed >= budget.total and not sample.audit
            reply |= {"budget_left": budget.left, "over_budget": over}
        if sample.purpose in BLIND:
            reply["purpose"] = "revise"  # blind: as any other sample
        scratch = sample.purpose == "double_read" and self._context.label_service.from_scratch
        if scratch:
            reply["organs"] = []
        elif sample.model_version is not None:
            # Noted when the volume was scored; nothing is computed here.
            reply["explanation"] = self._context.calibrations.explanation(
                sample.volume, sample.model_version
            )
        said = [f"given out again: {sample.note}"] if sample.note else []
        if model_version is not None:
            progress = self._context.ledger.progress(model_version)
            reply["scored"], reply["total"] = progress.scored, progress.total
            said.append(message(progress, model_version, sample.model_version))
            if sample.unscored:
                said.append("this volume has no score yet")
            if sample.audit:
                said.append(AUDIT)
            elif self._name in DRAWN and sample.strategy != self._name:
                said.append(f"{NOT_DRAWN} {self._name}")
        if sample.given_back:
            back = ", ".join(sample.given_back)
            said.append(f"given back without a submission: {back} ({BACK})")
        if said:
            reply["message"] = "; ".join(said)
        return reply


def looking_at(request: dict[str, Any]) -> str | None:
    """Return what is said to be looked at in the sample that is asked for: ``"all"`` or nothing."""
    said = request.get(ALL_LOOKED_AT, False)
    if not isinstance(said, bool):
        raise RequestError(f"{ALL_LOOKED_AT}: true or false is needed")
    return ALL if said else None


def kept_from(who: Holder, settings: Settings) -> float:
    """Return which part of the budget's places, from the first on, is not for this holder."""
    seniors = {name.strip() for name in (settings.seniors or "").split(",") if name.strip()}
    kind, _, name = who.key.partition(":")
    if not seniors or (kind != "anonymous" and name in seniors):
        return 0.0
    return settings.senior_percent / 100


def organ(name: object) -> str | None:
    """Return an organ's own name for the filter, ``None`` where none is asked for."""
    if name is None:
        return None
    found = find_organ(name) if isinstance(name, str) else None
    if found is None:
        raise RequestError(f"organ: {str(name)[:80]!r}; there are {', '.join(ORGAN_NAMES)}")
    return found.name


def text(key: str, value: object) -> str | None:
    """Return a parameter that is a string or not given."""
    if value is not None and not isinstance(value, str):
        raise RequestError(f"{key}: a string is needed")
    return value
