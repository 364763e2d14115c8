"""What may be laid over a CT on the page of its case, and where the browser gets it.

For a CT that a browser cannot hold as a whole, each comes through one route that gives the part
that the page shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, urlencode

from monailabel.interfaces.utils.app import app_instance

from atlas8k.core.parts import Part
from atlas8k.server.access import may_review
from atlas8k.server.blind import from_scratch, hides_first, masked
from atlas8k.server.tasks.infer import OrganInfer
from atlas8k.services.case_facts import Case
from atlas8k.services.case_parts import View
from atlas8k.services.cases import Cases
from atlas8k.services.labels.drafts import PSEUDO, PUBLIC
from atlas8k.services.studies.catalogue import FINAL
from atlas8k.services.studies.folder import ORIGINAL

ATTENTION, START, DRAWING = "attention", "start", "drawing"
SUBMISSION, NETWORK = "submission-", "network-"
TAGS = (PUBLIC, PSEUDO, FINAL)


@dataclass(frozen=True)
class Layer:
    """A label over the CT: ``method`` and ``url`` to get it by."""

    key: str
    text: str
    method: str
    url: str

    def model(self) -> str | None:
        """Return the model that makes it; None where it is kept."""
        if self.key == ATTENTION:
            return ATTENTION
        return self.key.removeprefix(NETWORK) if self.key.startswith(NETWORK) else None


def layers(cases: Cases, case: Case) -> list[Layer]:
    """Return what may be laid over a CT, all of it.

    Of submissions, one's own; a reviewer sees all, a second reader none.
    """
    image, service = case.image, cases.context.label_service
    if from_scratch(image):
        return []
    found = [Layer(f"{NETWORK}{n}", f"network {n}", "POST", _network(image, n)) for n in _names()]
    found.append(Layer(ATTENTION, "places to look at", "POST", _network(image, ATTENTION)))
    shown = [(PUBLIC, "public label"), (PSEUDO, "prediction of the networks")]
    gold = masked(image)
    if not hides_first(image) or (gold is not None and gold.own is not None):
        shown.append((FINAL, "current label, as submitted"))
        for one in reversed(cases.history(image)):
            own = cases.is_own(one.submission)
            if one.file is not None and (own or may_review()):
                number = one.submission.id
                where = f"/atlas8k/labels/{quote(image, safe='')}/history/{number}"
                found.append(Layer(f"{SUBMISSION}{number}", f"submission {number}", "GET", where))
    for tag, text in shown:
        if service.versions.current(image, tag) is not None:
            found.append(Layer(tag, text, "GET", _label(image, tag)))
    if case.organs:
        found.append(Layer(START, "label as it was given out", "GET", start(case)))
    return found[::-1]


def start(case: Case) -> str:
    """Return the address of the label that a case begins with."""
    if case.lease:
        return "/atlas8k/cases/start?" + urlencode({"image": case.image, "lease": case.lease})
    return _label(case.image, ORIGINAL)


def part_text(part: Part) -> str:
    """Return a block for a request: first voxel and the one after the last, six numbers."""
    return ",".join(str(n) for n in (*(s.start for s in part.box), *(s.stop for s in part.box)))


def in_part(image: str, key: str, view: View) -> str:
    """Return the address of the part of a layer that a page shows."""
    query = {"image": image, "key": key}
    if view.kind == "block":
        query["box"] = part_text(view.part)
    return "/atlas8k/case/layer?" + urlencode(query)


def ct(image: str, view: View) -> str:
    """Return the address of what a page shows of a CT."""
    if view.kind == "whole" and view.as_stored:
        return "/datastore/image?" + urlencode({"image": image})
    query = {"image": image}
    if view.kind != "thinned":
        query["box"] = part_text(view.part)
    return "/atlas8k/case/ct?" + urlencode(query)


def _label(image: str, tag: str) -> str:
    return "/datastore/label?" + urlencode({"label": image, "tag": tag})


def _names() -> list[str]:
    found = app_instance()._infers.items()
    return [name for name, task in found if isinstance(task, OrganInfer) and name != "ensemble"]


def _network(image: str, name: str) -> str:
    return f"/infer/{name}?" + urlencode({"image": image, "output": "image"})
