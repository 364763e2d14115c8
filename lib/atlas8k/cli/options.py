"""Options that several commands have, and what is read from them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from atlas8k.errors import SettingsError

MODELS = Path(__file__).resolve().parents[3] / "apps" / "atlas8k" / "model"
"""The app's own folder of checkpoints, in a clone of the project."""

Models = Annotated[
    Path,
    typer.Option(
        help="folder of checkpoints", show_default="apps/atlas8k/model beside this program"
    ),
]
Studies = Annotated[
    str, typer.Option(help="folder of CTs, or DICOMweb URL, as given to the server")
]
FolderOfStudies = Annotated[Path, typer.Option(help="folder of CTs, as given to the server")]
LedgerFile = Annotated[
    Path | None, typer.Option("--ledger", help="ledger file, where the server was given one")
]
Conf = Annotated[
    list[str] | None, typer.Option(help="a setting of the app as key=value, may be repeated")
]


class Command(TyperCommand):
    """A command whose help is filled to the width of the terminal, paragraph by paragraph."""

    def __init__(self, *arguments: Any, help: str | None = None, **more: Any) -> None:
        if help is not None:
            paragraphs = inspect.cleandoc(help).split("\n\n")
            help = "\n\n".join(" ".join(one.split()) for one in paragraphs)
        super().__init__(*arguments, help=help, **more)


class Commands(typer.Typer):
    """A group of commands as all groups here are: help where nothing is given, and filled."""

    def __init__(self, **more: Any) -> None:
        super().__init__(no_args_is_help=True, **more)

    def command(  # type: ignore[override]
        self, name: str | None = None, **more: Any
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register a command, see :meth:`typer.Typer.command`."""
        return super().command(name, cls=Command, **more)


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


def settings_of(conf: Sequence[str] | None) -> dict[str, str]:
    """Return ``--conf key=value`` options as a mapping.

    Raises
    ------
    SettingsError
        One has no equals sign.
    """
    wrong = [pair for pair in conf or () if "=" not in pair]
    if wrong:
        raise SettingsError(f"--conf {wrong[0]}: give key=value")
    return dict(pair.partition("=")[::2] for pair in conf or ())


def folder_only(studies: str | Path, why: str) -> Path:
    """Return the studies folder of a command that works on files alone.

    Raises
    ------
    SettingsError
        It is the URL of an archive; `why` says what to do, as in "... is for a folder of CTs".
    """
    from atlas8k.ledger import is_url

    # As a path, the two slashes of a URL are one.
    if is_url(str(studies)) or str(studies).startswith(("http:/", "https:/")):
        raise SettingsError(f"{studies}: is a DICOM archive; {why}")
    return Path(studies)


def existing_studies(studies: str | Path) -> str:
    """Return studies that can be opened, before anything slow is imported for them.

    Raises
    ------
    SettingsError
        There is no such folder.
    """
    from atlas8k.ledger import is_url

    if not is_url(str(studies)) and not Path(studies).is_dir():
        raise SettingsError(
            f"{studies}: there is no such folder; give a folder of CT volumes (case.nii.gz or "
            "case/ct.nii.gz), or the URL of a DICOMweb server"
        )
    return str(studies)


def ledger_path(studies: str | Path, given: Path | None) -> Path:
    """Return where the ledger of a studies folder, or of an archive's URL, lies.

    Raises
    ------
    LedgerError
        The folder does not exist.
    """
    from atlas8k.errors import LedgerError
    from atlas8k.ledger import is_url, locate

    if given is not None:
        return given
    if not is_url(str(studies)) and not Path(studies).is_dir():
        raise LedgerError(f"{studies}: there is no such folder; give --studies or --ledger")
    return locate(str(studies))


def existing_ledger(studies: str | Path, given: Path | None) -> Path:
    """Return the ledger of studies that a server or a scoring has used.

    Raises
    ------
    LedgerError
        There is none yet.
    """
    from atlas8k.errors import LedgerError
    from atlas8k.ledger import is_url

    path = ledger_path(studies, given)
    if path.exists():
        return path
    what = (
        f"start the server on {studies} once, or give --ledger as it was given it"
        if is_url(str(studies))
        else f"run `atlas8k score {studies}`, or start the server on it, once"
    )
    raise LedgerError(f"{path}: there is no ledger yet; {what}")
