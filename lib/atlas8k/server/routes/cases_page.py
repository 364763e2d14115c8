"""The page of one's own cases: plain forms, no script, light or dark as the screen is."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote, unquote

from fastapi import APIRouter, Form, Request, UploadFile
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from monailabel.interfaces.utils.app import app_instance
from pydantic import BaseModel, ConfigDict, Field

from atlas8k.attention.explain import Place
from atlas8k.content.familiar import line_text
from atlas8k.core.errors import Atlas8kError
from atlas8k.core.structures import ORGAN_NAMES, ORGANS
from atlas8k.server.access import NAME_COOKIE, NAME_LENGTH, get_caller, typed_name
from atlas8k.server.faults import reason as reason_of
from atlas8k.server.faults import status
from atlas8k.server.guarded_route import GuardedRoute
from atlas8k.server.page_templates import ENVIRONMENT, HEADERS, render
from atlas8k.server.routes.cases import WORKER, cases_of, start_file, submitted
from atlas8k.server.uploads import named_after, received_label
from atlas8k.services.cases import Cases
from atlas8k.services.checked_uploads import Checked
from atlas8k.services.errors import RequestError
from atlas8k.services.labels.recorded import STATES, recorded_text, words

logger = logging.getLogger(__name__)
router = APIRouter(prefix="/atlas8k", include_in_schema=False, route_class=GuardedRoute)

PAGE = "/atlas8k/cases"
SAID_COOKIE = "atlas8k_said"
LONGEST = 1200  # characters of a message; a cookie holds 4 kB
NAME_DAYS = 365
PARTIAL = {"": None, "true": True, "false": False}


def colors() -> dict[str, str]:
    """Return the colour of each structure as CSS has it."""
    return {organ.name: "#{:02x}{:02x}{:02x}".format(*organ.color) for organ in ORGANS}


@router.get("/cases", dependencies=WORKER)
def page(request: Request, all_right: int = 0) -> Response:
    """Open cases of who asks and what they submitted last, with what can be done.

    `all_right` is a lease whose form is shown with every organ marked correct.
    """
    text = unquote(request.cookies.get(SAID_COOKIE, ""))[: 2 * LONGEST]
    answer = shown(cases_of(), text, all_right=all_right)
    if text:
        answer.delete_cookie(SAID_COOKIE, path=PAGE)
    return answer


@router.get("/cases/start", dependencies=WORKER)
def start(image: str, lease: int | None = None) -> FileResponse:
    """Return the label that a case began with; the image's id may hold anything here."""
    return start_file(cases_of(), image, lease)


class Act(BaseModel):
    """What a form of the page asks for; ``organ-liver`` and the like are beside these fields."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)
    do: str
    image: str = ""
    lease: int | None = None
    submission: int = 0
    name: str = ""
    reason: str = Field("", max_length=2000)
    token: str = ""
    label: UploadFile | None = None


@router.post("/cases", dependencies=WORKER)
def act(asked: Annotated[Act, Form()]) -> Response:
    """Do what a form asks for, then show the page with what was done."""
    if asked.do == "name":
        return named(asked.name)
    cases = cases_of()
    try:
        if asked.do == "check":
            if asked.label is None or not asked.label.filename:
                raise RequestError(f"{asked.image}: choose the file with the corrected label first")
            with received_label(asked.image, asked.label) as sent:
                checked = cases.check(asked.image, sent, said_of(asked), lease=asked.lease)
            return shown(cases, "", checked=checked)
        text = done(cases, asked)
    except Atlas8kError as error:
        code = status(error)
        if code >= 500:
            raise
        logger.info("%s of %s: %d %s", asked.do[:20], asked.image[:80], code, reason_of(error))
        return shown(cases, reason_of(error), code)
    answer = RedirectResponse(PAGE, 303, headers=HEADERS)
    answer.set_cookie(
        SAID_COOKIE, quote(text[:LONGEST]), 60, path=PAGE, httponly=True, samesite="strict"
    )
    return answer


def said_of(asked: Act) -> dict[str, Any]:
    """Return what a form says of each organ, as in a label's ``params``.

    Its field ``organ-liver`` is ``correct``, ``absent`` or empty, ``volume-liver`` is there
    where the unusual volume is right.

    Raises
    ------
    RequestError
        A value means nothing.
    """
    fields = asked.model_extra or {}
    by: dict[str, list[str]] = {"": [], "correct": [], "absent": []}
    for organ in ORGAN_NAMES:
        word = str(fields.get(f"organ-{organ}", ""))
        if word not in by:
            raise RequestError(f"organ-{organ}: {word[:40]!r}; there are correct and absent")
        by[word].append(organ)
    partial = str(fields.get("partial", ""))
    if partial not in PARTIAL:
        raise RequestError(f"partial: {partial[:40]!r}; there are true and false")
    return {
        "looked_at": by["correct"],
        "absent": by["absent"],
        "volume_is_right": [organ for organ in ORGAN_NAMES if f"volume-{organ}" in fields],
        "partial": PARTIAL[partial],
    }


def done(cases: Cases, asked: Act) -> str:
    """Do what a form asks for; return what was done, one or two sentences.

    Raises
    ------
    RequestError
        There is nothing of that name to do.
    """
    do, image, lease = asked.do, asked.image, asked.lease
    if do == "confirm":
        receipt = cases.confirm(image, said_of(asked), lease=lease)
        return receipt_text(submitted(image, receipt))
    if do == "submit":
        path = cases.checked(image, asked.token, lease=lease)
        with named_after(image):
            receipt = cases.upload(image, path, said_of(asked), lease=lease)
        path.unlink(missing_ok=True)
        return receipt_text(submitted(image, receipt))
    if do == "release":
        if cases.release(image, lease=lease):
            return f"{image} is closed again; the current label stays. To undo: Open again, below."
        return f"{image} was given back; anybody may get it now. To undo: Take a case by name."
    if do == "take":
        cases.take(image)
        return f"{image} is in your hands. To undo: Give it back."
    if do == "reopen":
        cases.reopen(image)
        return (
            f"{image} is open again and in your hands; the current label stays until you submit. "
            "To undo: Close again, below."
        )
    if do == "restore":
        made = cases.restore(image, asked.submission)
        submitted_again = f"submission {asked.submission} is current again, as {made.id}"
        return f"{image}: {submitted_again}. Earlier ones are kept and can be put back likewise."
    if do == "exclude":
        cases.exclude(image, asked.reason)
        return f"{image} is not usable: {asked.reason}. To undo: Count it again, below."
    if do == "include":
        if not cases.include(image, asked.reason):
            return f"{image} counts already."
        app_instance().score_again()
        return f"{image} counts again. To undo: take it by name and say that it is not usable."
    raise RequestError(f"do: {do[:40]!r} is nothing that can be done here")


def receipt_text(told: dict[str, Any]) -> str:
    """Return what became of a submission, for the person who made it."""
    text = f"Submitted {told['image']} as submission {told['submission']} ({told['recorded']})."
    if told["notes"]:
        text += f" Of the file: {'; '.join(told['notes'])}."
    if told["conflict"] or not told["in_force"]:
        text += " Somebody else's came first: a reviewer decides which is current."
    if told["disputes"]:
        changed = ", ".join(map(words, told["disputes"]))
        text += f" A reviewer decides about public labels that it changes: {changed}."
    return f"{text} To undo: Open again, below."


def named(name: str) -> Response:
    """Store a name in a cookie, or remove it where it is empty."""
    kept = typed_name(name)
    answer = RedirectResponse(PAGE, 303, headers=HEADERS)
    if kept:
        answer.set_cookie(
            NAME_COOKIE, quote(kept), NAME_DAYS * 86400, path="/", httponly=True, samesite="strict"
        )
    else:
        answer.delete_cookie(NAME_COOKIE, path="/")
    return answer


def shown(
    cases: Cases,
    text: str,
    code: int = 200,
    *,
    all_right: int = 0,
    checked: Checked | None = None,
) -> HTMLResponse:
    """Return the page with a message on top; an error's where `code` is one.

    Parameters
    ----------
    all_right
        Lease whose form has every organ marked correct.
    checked
        What would be recorded of an uploaded label, to be submitted or not.
    """
    caller, context = get_caller(), cases.context
    return render(
        "cases.html.j2",
        code,
        user=caller.user,
        name=caller.name,
        name_length=NAME_LENGTH,
        message=text,
        error=code >= 400,
        cases=cases.open(),
        returned=cases.returned(),
        drawn=cases.drawings.all(),
        past=cases.past(),
        all_right=all_right,
        checked=checked,
        remarks=context.remarks(),
        unlike=context.unlike(),
        not_usable=context.ledger.not_usable(),
        rejected=context.label_service.existing.waiting(),
        labels_checked=context.labels_checked(),
        archive=context.archive is not None,
        label_files=context.label_watch.status(),
        colors=colors(),
        page=PAGE,
    )


def left(seconds: float) -> str:
    """Return a time left in minutes or hours and minutes."""
    minutes = int(seconds // 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def when(seconds: float) -> str:
    """Return a time as text, UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


ENVIRONMENT.filters |= {"left": left, "time": when, "words": words, "recorded": recorded_text}
ENVIRONMENT.globals |= {"states": STATES, "place": Place.from_dict, "feature": line_text}
