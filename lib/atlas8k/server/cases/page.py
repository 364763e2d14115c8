"""The page of one's own cases: plain forms, no script, light or dark as the screen is."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote, unquote

from fastapi import APIRouter, Depends, File, Form, Request, UploadFile
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from monailabel.interfaces.utils.app import app_instance

from atlas8k.attention.explain import Place
from atlas8k.content.familiar import line_text
from atlas8k.errors import Atlas8kError
from atlas8k.organs import ORGAN_NAMES, ORGANS
from atlas8k.server.cases.cases import Cases, Checked
from atlas8k.server.cases.routes import (
    AsEither,
    FromHere,
    cases_of,
    start_file,
    submitted,
    uploaded,
)
from atlas8k.server.desk.recorded import STATES, recorded_text, words
from atlas8k.server.errors import RequestError
from atlas8k.server.web.caller import NAME_COOKIE, NAME_LENGTH, get_caller, typed_name
from atlas8k.server.web.faults import reason as reason_of
from atlas8k.server.web.faults import status
from atlas8k.server.web.label_routes import named as named_label

logger = logging.getLogger(__name__)
router = APIRouter(prefix="/atlas8k", include_in_schema=False)

PAGE = "/atlas8k/cases"
SAID_COOKIE = "atlas8k_said"
LONGEST = 1200  # characters of a message; a cookie holds 4 kB
NAME_DAYS = 365
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
PARTIAL = {"": None, "true": True, "false": False}
COLORS = {organ.name: "#{:02x}{:02x}{:02x}".format(*organ.color) for organ in ORGANS}


@functools.cache
def template() -> Template:
    """The page; every value that goes into it is escaped."""
    environment = Environment(
        loader=PackageLoader("atlas8k.server"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"left": left, "time": when, "words": words, "recorded": recorded_text}
    environment.globals |= {"states": STATES, "place": Place.from_dict, "feature": line_text}
    return environment.get_template("cases.html.j2")


@router.get("/cases")
def page(request: Request, user: AsEither, all_right: int = 0) -> Response:
    """Open cases of who asks and what they submitted last, with what can be done.

    `all_right` is a lease whose form is shown with every organ marked correct.
    """
    text = unquote(request.cookies.get(SAID_COOKIE, ""))[: 2 * LONGEST]
    answer = shown(cases_of(request, user), text, all_right=all_right)
    if text:
        answer.delete_cookie(SAID_COOKIE, path=PAGE)
    return answer


@router.get("/cases/start")
def start(request: Request, user: AsEither, image: str, lease: int | None = None) -> FileResponse:
    """The label that a case began with; the image's id may hold anything here."""
    return start_file(cases_of(request, user), image, lease)


async def form_of(request: Request) -> dict[str, str]:
    """The text fields of a form; of several of one name, the last."""
    return {key: value for key, value in (await request.form()).items() if isinstance(value, str)}


Fields = Annotated[dict[str, str], Depends(form_of)]


@router.post("/cases", dependencies=[FromHere])
def act(
    request: Request,
    user: AsEither,
    fields: Fields,
    do: Annotated[str, Form()],
    image: Annotated[str, Form()] = "",
    lease: Annotated[int | None, Form()] = None,
    submission: Annotated[int, Form()] = 0,
    name: Annotated[str, Form()] = "",
    reason: Annotated[str, Form(max_length=2000)] = "",
    label: Annotated[UploadFile | None, File()] = None,
) -> Response:
    """Do what a form asks for, then show the page with what was done."""
    cases = cases_of(request, user)
    if do == "name":
        return named(name)
    try:
        if do == "check":
            return shown(cases, "", checked=check(cases, image, lease, fields, label))
        if do in DECISIONS:
            text = DECISIONS[do](cases, image, reason)
        else:
            text = done(cases, do, image, lease, submission, fields)
    except Atlas8kError as error:
        code = status(error)
        if code >= 500:
            raise
        logger.info("%s of %s: %d %s", do[:20], image[:80], code, reason_of(error))
        return shown(cases, reason_of(error), code)
    answer = RedirectResponse(PAGE, 303, headers=HEADERS)
    answer.set_cookie(
        SAID_COOKIE, quote(text[:LONGEST]), 60, path=PAGE, httponly=True, samesite="strict"
    )
    return answer


def said_of(fields: Mapping[str, str]) -> dict[str, Any]:
    """What a form says of each organ, as in a label's ``params``.

    Its field ``organ-liver`` is ``correct``, ``absent`` or empty, ``volume-liver`` is there
    where the unusual volume is right.

    Raises
    ------
    RequestError
        A value means nothing.
    """
    by: dict[str, list[str]] = {"": [], "correct": [], "absent": []}
    for organ in ORGAN_NAMES:
        word = fields.get(f"organ-{organ}", "")
        if word not in by:
            raise RequestError(f"organ-{organ}: {word[:40]!r}; there are correct and absent")
        by[word].append(organ)
    partial = fields.get("partial", "")
    if partial not in PARTIAL:
        raise RequestError(f"partial: {partial[:40]!r}; there are true and false")
    return {
        "looked_at": by["correct"],
        "absent": by["absent"],
        "volume_is_right": [organ for organ in ORGAN_NAMES if f"volume-{organ}" in fields],
        "partial": PARTIAL[partial],
    }


def check(
    cases: Cases,
    image: str,
    lease: int | None,
    fields: Mapping[str, str],
    label: UploadFile | None,
) -> Checked:
    """Say what would be recorded of an uploaded label.

    Raises
    ------
    RequestError
        There is no file.
    """
    if label is None or not label.filename:
        raise RequestError(f"{image}: choose the file with the corrected label first")
    with uploaded(image, label) as sent:
        return cases.check(image, sent, said_of(fields), lease=lease)


def done(
    cases: Cases,
    do: str,
    image: str,
    lease: int | None,
    submission: int,
    fields: Mapping[str, str],
) -> str:
    """What was done, one or two sentences.

    Raises
    ------
    RequestError
        There is nothing of that name to do.
    """
    client = get_caller().name or None
    if do == "confirm":
        receipt = cases.confirm(image, said_of(fields), lease=lease, client=client)
        return receipt_text(submitted(image, receipt))
    if do == "submit":
        path = cases.checked(image, fields.get("token", ""), lease=lease)
        with named_label(image):
            receipt = cases.upload(image, path, said_of(fields), lease=lease, client=client)
        path.unlink(missing_ok=True)
        return receipt_text(submitted(image, receipt))
    if do == "release":
        if cases.release(image, lease=lease):
            return f"{image} is closed again; the label in force stays. To undo: Open again, below."
        return f"{image} was given back; anybody may get it now. To undo: Take a case by name."
    if do == "take":
        cases.take(image)
        return f"{image} is in your hands. To undo: Give it back."
    if do == "reopen":
        cases.reopen(image)
        return (
            f"{image} is open again and in your hands; the label in force stays until you submit. "
            "To undo: Close again, below."
        )
    if do == "restore":
        made = cases.restore(image, submission)
        submitted_again = f"submission {submission} is in force again, as {made.id}"
        return f"{image}: {submitted_again}. Earlier ones are kept and can be put back likewise."
    raise RequestError(f"do: {do[:40]!r} is nothing that can be done here")


def not_usable(cases: Cases, image: str, reason: str) -> str:
    """Say that a CT is not usable."""
    cases.exclude(image, reason)
    return f"{image} is not usable: {reason}. To undo: Count it again, below."


def usable(cases: Cases, image: str, reason: str) -> str:
    """Let a CT count again."""
    if not cases.include(image, reason):
        return f"{image} counts already."
    app_instance().score_again()
    return f"{image} counts again. To undo: take it by name and say that it is not usable."


DECISIONS = {"exclude": not_usable, "include": usable}


def receipt_text(told: dict[str, Any]) -> str:
    """What became of a submission, for the person who made it."""
    text = f"Submitted {told['image']} as submission {told['submission']} ({told['recorded']})."
    if told["notes"]:
        text += f" Of the file: {'; '.join(told['notes'])}."
    if told["conflict"] or not told["in_force"]:
        text += " Somebody else's came first: a reviewer decides which is in force."
    if told["disputes"]:
        changed = ", ".join(map(words, told["disputes"]))
        text += f" A reviewer decides about public labels that it changes: {changed}."
    return f"{text} To undo: Open again, below."


def named(name: str) -> Response:
    """Keep a name, or forget it where it is empty."""
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
    """The page with a message on top; an error's where `code` is one.

    Parameters
    ----------
    all_right
        Lease whose form has every organ marked correct.
    checked
        What would be recorded of an uploaded label, to be submitted or not.
    """
    caller = get_caller()
    html = template().render(
        user=caller.user,
        name=caller.name,
        name_length=NAME_LENGTH,
        message=text,
        error=code >= 400,
        cases=cases.open(),
        past=cases.past(),
        all_right=all_right,
        checked=checked,
        remarks=cases.remarks(),
        unlike=cases.unlike(),
        not_usable=cases.not_usable(),
        rejected=cases.rejected(),
        labels_checked=cases.labels_checked(),
        colors=COLORS,
        page=PAGE,
    )
    return HTMLResponse(html, code, headers=HEADERS)


def left(seconds: float) -> str:
    """A time left, in minutes or hours and minutes."""
    minutes = int(seconds // 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def when(seconds: float) -> str:
    """A time, UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
