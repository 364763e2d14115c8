"""Strategies: the ledger picks and leases in one step."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any, Literal

from fastapi import HTTPException
from monailabel.config import settings
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from atlas8k.errors import CheckpointError
from atlas8k.labels.submission_diff import ALL
from atlas8k.ledger import Holder, Sample
from atlas8k.organs import ORGAN_NAMES, find_organ
from atlas8k.server.context import Context, message
from atlas8k.server.errors import ConflictError, RequestError
from atlas8k.server.web.caller import get_caller

logger = logging.getLogger(__name__)

Name = Literal["attention", "first", "random"]
ALL_LOOKED_AT = "all_looked_at"
"""Option of a sample: its annotator will look at every organ, so that those that come back as
they went out are right. 3D Slicer can say nothing with the label itself."""
AUDIT = "drawn at random among low-ranked volumes, to see what errors are left there"
BACK = "to go on with it, take it by name on the page /atlas8k/cases"
PATIENCE_S = 10.0
"""Labels in the folder are checked before their CTs are handed out, for so long at most."""
DESCRIPTIONS: dict[Name, str] = {
    "attention": "The volume with the largest attention size: the likeliest to be wrong",
    "first": "By name",
    "random": "In an order drawn once",
}


class _Serving(Strategy):
    """What strategies share: the signature that is served, and the reply."""

    def __init__(self, context: Context, description: str) -> None:
        super().__init__(description)
        self._context = context

    def info(self) -> dict[str, Any]:
        """What clients show; under ``config`` an option that they send with the next sample."""
        return {**super().info(), "config": {ALL_LOOKED_AT: False}}

    def _signature(self) -> str | None:
        try:
            return self._context.signature()
        except CheckpointError as err:
            # Annotators go on without an order; who runs the server finds this in the log.
            logger.error("no networks, samples are not ranked: %s", err)
            return None

    def _reply(self, sample: Sample, signature: str | None) -> dict[str, Any]:
        reply = sample.as_dict()
        reply["id"] = reply.pop("volume")
        reply["model_signature"] = reply.pop("signature")
        # The route adds what the datastore knows under the same key.
        del reply["strategy"]
        if sample.purpose == "double_read":
            reply["purpose"] = "revise"  # blind: as any other sample
        if sample.signature is not None:
            # Noted when the volume was scored; nothing is computed here.
            reply["explanation"] = self._context.ledger.explanation(sample.volume, sample.signature)
        if signature is not None:
            progress = self._context.ledger.progress(signature)
            reply["scored"], reply["total"] = progress.scored, progress.total
            reply["message"] = message(progress, signature, sample.signature)
            if sample.unscored:
                reply["message"] += "; this volume has no score yet"
            if sample.audit:
                reply["message"] += f"; {AUDIT}"
        if sample.given_back:
            back = f"given back without a submission: {', '.join(sample.given_back)} ({BACK})"
            reply["message"] = f"{reply['message']}; {back}" if "message" in reply else back
        return reply


class LedgerStrategy(_Serving):
    """The next volume nobody else holds, leased to who asks."""

    def __init__(self, context: Context, name: Name) -> None:
        super().__init__(context, DESCRIPTIONS[name])
        self._name = name

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Pick and lease.

        Parameters
        ----------
        request
            ``client_id``; ``organ``: rank by this organ alone; ``source``: volumes of this
            source dataset only; ``all_looked_at``: see :data:`ALL_LOOKED_AT`.

        Returns
        -------
        dict or None
            ``id`` and why it was this one: ``attention_ml``, ``rank`` of ``ranked``,
            ``organs`` with the largest attention first, ``model_signature`` that it was
            ranked by, round and budget, ``message``; ``audit``: it was drawn at random to
            see what errors are left; ``given_back``: what one had until now; ``explanation``:
            organs and regions in order with the slice to open. ``None`` when nothing is left.

        Raises
        ------
        ConflictError
            The first volumes of the list have labels that are still being checked.
        """
        context = self._context
        context.reach()
        context.sync()
        signature, who, looked_at = self._signature(), holder(request), looking_at(request)
        given_back: tuple[str, ...] = ()
        until = time.monotonic() + PATIENCE_S
        while True:
            sample = context.ledger.next_sample(
                holder=who,
                strategy=self._name,
                signature=signature,
                organ=organ(request.get("organ")),
                source=text("source", request.get("source")),
                looked_at=looked_at,
            )
            if sample is None:
                return None
            given_back += sample.given_back
            if context.bring(sample.volume, who):
                break
            checked, total = context.labels_checked()
            if total and time.monotonic() > until:
                raise ConflictError(
                    "the next CTs of the list have labels already, which are being checked "
                    f"({checked} of {total} so far); ask again in a moment"
                )
        sample = replace(sample, given_back=given_back)
        # Its start label, should a killed process have left that half done.
        context.desk.reconciler.reconcile(sample.volume)
        return {**self._reply(sample, signature), "looked_at": looked_at}


class ReviewStrategy(_Serving):
    """The case that has waited longest for a reviewer, leased to the one who asks.

    What the reviewer submits on it takes the case over: it is in force, and the open
    questions are answered by it.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context, "For reviewers: conflicts, disputes, second readings, samples")

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Pick and lease.

        Returns
        -------
        dict or None
            As other strategies, and ``reviews``: the questions; ``submissions``: those in
            question and in force. ``None`` when nothing waits.

        Raises
        ------
        HTTPException
            403: who asks is no reviewer.
        UpstreamError
            As other strategies.
        """
        if not may_review(get_caller().roles):
            raise HTTPException(
                403, f"strategy review is for role {settings.MONAI_LABEL_AUTH_ROLE_REVIEWER}"
            )
        context = self._context
        context.reach()
        context.sync()
        signature, who, looked_at = self._signature(), holder(request), looking_at(request)
        while True:
            sample = context.ledger.next_review(
                holder=who, signature=signature, looked_at=looked_at
            )
            if sample is None:
                return None
            if context.bring(sample.volume, who):
                break
        context.desk.reconciler.reconcile(sample.volume)
        reply = {**self._reply(sample, signature), "looked_at": looked_at}
        questions = context.ledger.reviews(sample.volume)
        reply["reviews"] = [asdict(question) for question in questions]
        asked = {n for question in questions for n in (question.submission, question.other)}
        reply["submissions"] = [
            {"id": one.id, "holder": one.holder, "minutes": one.minutes}
            for one in context.ledger.submissions(sample.volume)
            if one.id in asked
        ]
        return reply


def may_review(roles: Iterable[str]) -> bool:
    """Whether a user of these roles is a reviewer; everybody is where sign-in is off."""
    reviewers = {settings.MONAI_LABEL_AUTH_ROLE_REVIEWER, settings.MONAI_LABEL_AUTH_ROLE_ADMIN}
    return not settings.MONAI_LABEL_AUTH_ENABLE or bool(reviewers & set(roles))


def holder(request: dict[str, Any]) -> Holder:
    """Who asks: the signed-in user, else the client id or typed name, else the address."""
    caller = get_caller()
    client = request.get("client_id") or caller.name
    return Holder.identify(
        user=caller.user or None,
        client_id=str(client)[:80] if client else None,
        address=caller.address,
        software=caller.software,
    )


def looking_at(request: dict[str, Any]) -> str | None:
    """What is said to be looked at in the sample that is asked for: ``"all"`` or nothing."""
    said = request.get(ALL_LOOKED_AT, False)
    if not isinstance(said, bool):
        raise RequestError(f"{ALL_LOOKED_AT}: true or false is needed")
    return ALL if said else None


def organ(name: object) -> str | None:
    """An organ's own name for the filter, ``None`` where none is asked for."""
    if name is None:
        return None
    found = find_organ(name) if isinstance(name, str) else None
    if found is None:
        raise RequestError(f"organ: {str(name)[:80]!r}; there are {', '.join(ORGAN_NAMES)}")
    return found.name


def text(key: str, value: object) -> str | None:
    """A parameter that is a string or not given."""
    if value is not None and not isinstance(value, str):
        raise RequestError(f"{key}: a string is needed")
    return value
