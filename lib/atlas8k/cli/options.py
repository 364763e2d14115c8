"""Options of several commands that say ``NAME=VALUE``."""

from __future__ import annotations

from collections.abc import Sequence

import typer


def named(texts: Sequence[str], option: str) -> dict[str, str]:
    """``NAME=VALUE`` options as a mapping.

    Raises
    ------
    typer.BadParameter
        Not of that form, a name with a slash, or twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not (name and sign and value) or "/" in name or name in found:
            raise typer.BadParameter(f"{text!r} is not NAME=…, each name once", param_hint=option)
        found[name] = value
    return found
