"""Strategies `attention`, `first` and `random`: the ledger picks and leases in one step."""

from __future__ import annotations

import logging
from typing import Any, Literal

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from atlas8k.errors import CheckpointError
from atlas8k.ledger import Holder, Sample
from atlas8k.organs import ORGAN_NAMES, find_organ
from atlas8k.server.caller import get_caller
from atlas8k.server.context import Context, message
from atlas8k.server.errors import RequestError

logger = logging.getLogger(__name__)

Name = Literal["attention", "first", "random"]
DESCRIPTIONS: dict[Name, str] = {
    "attention": "The volume with the largest attention size: the likeliest to be wrong",
    "first": "By name",
    "random": "In an order drawn once",
}


class LedgerStrategy(Strategy):
    """The next volume nobody else holds, leased to who asks."""

    def __init__(self, context: Context, name: Name) -> None:
        super().__init__(DESCRIPTIONS[name])
        self._context, self._name = context, name

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Pick and lease.

        Parameters
        ----------
        request
            ``client_id``; ``organ``: rank by this organ alone; ``source``: volumes of this
            source dataset only.

        Returns
        -------
        dict or None
            ``id`` and why it was this one: ``attention_ml``, ``rank`` of ``ranked``,
            ``organs`` with the largest attention first, ``model_signature`` that it was
            ranked by, round and budget, ``message``; ``explanation``: organs and regions in
            order with the slice to open. ``None`` when nothing is left.
        """
        context = self._context
        context.sync()
        signature = self._signature()
        sample = context.ledger.next_sample(
            holder=holder(request),
            strategy=self._name,
            signature=signature,
            organ=organ(request.get("organ")),
            source=text("source", request.get("source")),
        )
        return None if sample is None else self._reply(sample, signature)

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
        if sample.signature is not None:
            # Noted when the volume was scored; nothing is computed here.
            reply["explanation"] = self._context.ledger.explanation(sample.volume, sample.signature)
        if signature is not None:
            progress = self._context.ledger.progress(signature)
            reply["scored"], reply["total"] = progress.scored, progress.total
            reply["message"] = message(progress, signature, sample.signature)
            if sample.unscored:
                reply["message"] += "; this volume has no score yet"
        return reply


def holder(request: dict[str, Any]) -> Holder:
    """Who asks: the signed-in user, else the client id, else the client's address."""
    caller, client = get_caller(), request.get("client_id")
    return Holder.identify(
        user=caller.user or None,
        client_id=str(client)[:80] if client else None,
        address=caller.address,
        software=caller.software,
    )


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
