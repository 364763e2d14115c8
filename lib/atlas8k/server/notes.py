"""What clients may note about an image or a label: known names with their types, nothing else.

What is noted is merged into what the server says of an image, to everybody. A free choice of names
would let one client say to another that a case is theirs, or where it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from atlas8k.services.errors import RequestError

Text = Annotated[str, Field(max_length=2000)]
Word = Annotated[str, Field(max_length=200)]


class SegmentationMeta(BaseModel):
    """What 3D Slicer's module *MONAILabel Reviewer* says of a label, under its own names."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    status: Word = ""
    level: Word = ""
    approved_by: Word = Field("", alias="approvedBy")
    comment: Text = ""
    edit_time: int | float | Word = Field("", alias="editTime")


class Notes(BaseModel):
    """Names that clients may set, with their types.

    ``comment``, ``difficulty`` and ``keywords`` are for people; ``segmentationMeta`` is 3D
    Slicer's; ``client_id`` says who noted it where sign-in is off.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    comment: Text | None = None
    difficulty: Word | int | float | None = None
    keywords: Annotated[list[Word], Field(max_length=50)] | None = None
    segmentation_meta: SegmentationMeta | None = Field(None, alias="segmentationMeta")
    client_id: Word | None = None


SERVERS_OWN = {"strategy", "user", "ts", "name", "path", "checksum", "remarks"}
"""Names that the server notes, or says whatever is noted."""
NAMES = {field.alias or name for name, field in Notes.model_fields.items()}


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return notes as they came.

    Raises
    ------
    RequestError
        A name that clients may not set, or a value of another type.
    """
    try:
        return Notes.model_validate(given).model_dump(exclude_unset=True, by_alias=True)
    except ValidationError as err:
        first = err.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:80]
        if first["type"] == "extra_forbidden":
            known = ", ".join(sorted(NAMES))
            raise RequestError(f"{where!r} cannot be noted; clients may note {known}") from err
        raise RequestError(f"{where}: {first['msg']}") from err


def without_others(info: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the server says of an image without names that a client has set.

    An earlier release let clients note anything, which is still stored then.

    Parameters
    ----------
    info
        As the server says it.
    stored
        What of it comes from notes.
    """
    foreign = stored.keys() - NAMES - SERVERS_OWN
    return {name: value for name, value in info.items() if name not in foreign}
