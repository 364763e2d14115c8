"""Ids, tags and file names that cannot leave the studies folder.

An id becomes part of a path here and a file name in every viewer's cache, on Windows too.
Ids are therefore what all file systems take: people's own names with blanks, brackets and
letters of any language pass, separators, control characters and Windows' reserved
characters do not. Tags are chosen by programs and are plain.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from atlas8k.services.studies.errors import BadNameError

IMAGE_SUFFIXES = (".nii.gz", ".nii", ".NII.GZ", ".NII")
LABEL_SUFFIXES = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd")
"""In order of preference, where two files claim one id."""

MAX_ID_BYTES = 200
"""With a time stamp and a suffix still a file name that every file system takes."""

LABELS_FOLDER = "labels"
REJECTED = "rejected"
"""Folder below it of labels that were set aside; no tag."""
CASE_STEM = "ct"
"""AbdomenAtlas keeps a case as ``case/ct.nii.gz``."""

_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_RESERVED = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')


def id_fault(name: str) -> str | None:
    """Why `name` cannot be an image's id; ``None`` where it can."""
    if not name:
        return "it is empty"
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        return "it is not valid Unicode; rename the file"
    if length > MAX_ID_BYTES:
        return f"it is longer than {MAX_ID_BYTES} bytes"
    if name.startswith(".") or ".." in name:
        return "it starts with a dot or holds two in a row"
    if name != name.strip():
        return "it starts or ends with a blank"
    if _RESERVED.search(name):
        return r'it holds a control character or one of / \ : * ? " < > |'
    if name == LABELS_FOLDER:
        return f"{LABELS_FOLDER!r} is the folder of the labels"
    return None


def check_id(name: object) -> str:
    """`name` as an image id.

    Raises
    ------
    BadNameError
        It could leave the folder, or some file system would not take it.
    """
    text = str(name)
    fault = id_fault(text)
    if fault is not None:
        raise BadNameError("image id", text, fault)
    return text


def check_tag(tag: object) -> str:
    """`tag` as a label tag; MONAI Label's own enumeration gives its value.

    Raises
    ------
    BadNameError
        Not plain: letters, digits, ``.``, ``_`` and ``-``, at most 64, no leading dot; or
        the name of the folder of labels that were set aside.
    """
    text = str(getattr(tag, "value", tag))
    if not is_tag(text):
        raise BadNameError(
            "label tag",
            text,
            f"use up to 64 letters, digits, '.', '_' and '-', no leading dot, and not {REJECTED!r}",
        )
    return text


def is_tag(text: str) -> bool:
    """Whether `text` can be a label tag."""
    return bool(_TAG.fullmatch(text)) and ".." not in text and text != REJECTED


def suffixes_of(patterns: str | Iterable[str]) -> tuple[str, ...]:
    """MONAI Label's ``"*.nii.gz"`` patterns as suffixes, in order, each once."""
    texts = [patterns] if isinstance(patterns, str) else list(patterns)
    suffixes = dict.fromkeys("." + text.lstrip("*").lstrip(".") for text in texts)
    suffixes.pop(".", None)
    return tuple(suffixes)


def split_suffix(name: str, suffixes: Sequence[str]) -> tuple[str, str] | None:
    """``("case", ".nii.gz")`` for ``"case.nii.gz"``; ``None`` where no suffix fits.

    The longest suffix that fits is taken, and only at the end: ``a.nii.b.nii.gz`` has
    the stem ``a.nii.b``.
    """
    fitting = [s for s in suffixes if name.endswith(s) and len(name) > len(s)]
    if not fitting:
        return None
    suffix = max(fitting, key=len)
    return name[: -len(suffix)], suffix


def require_suffix(kind: str, name: str, suffixes: Sequence[str]) -> tuple[str, str]:
    """:func:`split_suffix`, or an error that says which suffixes there are.

    Raises
    ------
    BadNameError
        No suffix fits.
    """
    parts = split_suffix(name, suffixes)
    if parts is None:
        shown = dict.fromkeys(suffix.lower() for suffix in suffixes)
        raise BadNameError(kind, name, f"its name must end in {', '.join(shown)}")
    return parts
