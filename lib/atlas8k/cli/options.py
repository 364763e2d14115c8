"""Define options that several commands have, and parse them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from atlas8k.core.errors import SettingsError

MODELS = Path(__file__).resolve().parents[3] / "apps" / "atlas8k" / "model"
"""The app's own folder of checkpoints, in a clone of the project."""


def _orientation(text: str | None) -> str | None:
    if text is None:
        return None
    from atlas8k.core.nifti_geometry import check_stated

    try:
        return check_stated(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


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
ClusterAddress = Annotated[
    str,
    typer.Option(
        "--cluster",
        metavar="ADDRESS|auto|local",
        help="predict on a Ray cluster; local: on all GPUs or processors of this machine",
    ),
]
ClusterWorkers = Annotated[
    int,
    typer.Option(
        min=0,
        help="on each node; where they are more than its GPUs, several share one. 0: one for each "
        "GPU, or for every four processors",
    ),
]
Names = Annotated[bool, typer.Option("--names", help="name annotators in place of numbering them")]
AsJson = Annotated[bool, typer.Option("--json", help="as JSON")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1")]
Networks = Annotated[str, typer.Option(help="all, or names with commas between")]
Epochs = Annotated[int | None, typer.Option(help="of each network")]
Steps = Annotated[int | None, typer.Option(help="of an epoch")]
Patients = Annotated[
    Path | None, typer.Option(help="CSV: volume,patient; those of one stay together")
]
Maps = Annotated[
    Path | None,
    typer.Option(help="YAML file with datasets of your own, in the form of datasets.yaml"),
]
Tolerance = Annotated[float, typer.Option(min=0.0, help="Of NSD, mm.")]
Orientation = Annotated[
    str | None,
    typer.Option(
        help="Direction of the axes of files whose headers lack it: RAS, LPS, …",
        callback=_orientation,
        show_default=False,
    ),
]


class Command(TyperCommand):
    """A command whose help is wrapped to the width of the terminal, paragraph by paragraph."""

    def __init__(self, *arguments: Any, help: str | None = None, **more: Any) -> None:
        if help is not None:
            paragraphs = inspect.cleandoc(help).split("\n\n")
            help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
        super().__init__(*arguments, help=help, **more)


class Commands(typer.Typer):
    """A group of commands that shows its help, wrapped, where no command is given."""

    def __init__(self, **more: Any) -> None:
        super().__init__(no_args_is_help=True, **more)

    def command(  # type: ignore[override]
        self, name: str | None = None, **more: Any
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register a command, see :meth:`typer.Typer.command`."""
        return super().command(name, cls=Command, **more)


def named(texts: Sequence[str] | None, option: str) -> dict[str, str]:
    """Return ``NAME=VALUE`` options as a mapping.

    Raises
    ------
    typer.BadParameter
        Not of that form, a name with a slash, or twice.
    """
    values: dict[str, str] = {}
    for text in texts or ():
        name, _, value = text.partition("=")
        if not (name and value) or "/" in name or name in values:
            raise typer.BadParameter(f"{text!r} is not NAME=…, each name once", param_hint=option)
        values[name] = value
    return values


def settings_of(conf: Sequence[str] | None, **more: object) -> dict[str, str]:
    """Return ``--conf key=value`` options as a mapping, joined with further options.

    Raises
    ------
    SettingsError
        Where an option has no equals sign.
    """
    wrong = [pair for pair in conf or () if "=" not in pair]
    if wrong:
        raise SettingsError(f"--conf {wrong[0]}: give key=value")
    settings = dict(pair.partition("=")[::2] for pair in conf or ())
    return settings | {key: str(value) for key, value in more.items() if value is not None}


def names_in(text: str) -> tuple[str, ...]:
    """Return the names in a text, separated by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def organs_in(text: str, option: str = "--organs") -> list[str]:
    """Return the organs named in an option, by name or alias, separated by commas.

    Raises
    ------
    typer.BadParameter
        One is none of ours.
    """
    from atlas8k.core.structures import ORGAN_NAMES, find_organ

    organs = []
    for name in names_in(text):
        organ = find_organ(name)
        if organ is None:
            message = f"{name!r} is none of {', '.join(ORGAN_NAMES)}"
            raise typer.BadParameter(message, param_hint=option)
        organs.append(organ.name)
    return organs
