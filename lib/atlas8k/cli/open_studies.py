"""Open studies folders and archives for commands: ledger, labels, the server's context."""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from atlas8k.core.errors import LedgerError, SettingsError

if TYPE_CHECKING:
    from atlas8k.core.settings import Settings
    from atlas8k.services.context import Context
    from atlas8k.services.labels.service import LabelService
    from atlas8k.services.scoring import Workers
    from atlas8k.store import Holder, Ledger, Progress


def folder_only(studies: str | Path, why: str) -> Path:
    """Return the studies folder of a command that works on files alone.

    Raises
    ------
    SettingsError
        It is the URL of an archive; `why` tells what to do, as in "... is for a folder of CTs".
    """
    from atlas8k.store import is_url

    # As a path, the two slashes of a URL are one.
    if is_url(str(studies)) or str(studies).startswith(("http:/", "https:/")):
        raise SettingsError(f"{studies}: is a DICOM archive; {why}")
    return Path(studies)


def existing_studies(studies: str | Path) -> str:
    """Check that studies exist, before anything slow is imported, and return them.

    Raises
    ------
    SettingsError
        There is no such folder.
    """
    from atlas8k.store import is_url

    if not is_url(str(studies)) and not Path(studies).is_dir():
        raise SettingsError(
            f"{studies}: there is no such folder; give a folder of CT volumes (case.nii.gz or "
            "case/ct.nii.gz), or the URL of a DICOMweb server"
        )
    return str(studies)


def existing_ledger(studies: str | Path, ledger: Path | None) -> Path:
    """Return the path of the ledger of studies that a server or a scoring has used.

    Raises
    ------
    LedgerError
        Where it does not exist yet, or the folder does not.
    """
    from atlas8k.store import is_url, locate

    archive = is_url(str(studies))
    if ledger is None and not archive and not Path(studies).is_dir():
        raise LedgerError(f"{studies}: there is no such folder; give --studies or --ledger")
    path = ledger or locate(str(studies))
    if path.exists():
        return path
    what = (
        f"start the server on {studies} once, or give --ledger as it was given it"
        if archive
        else f"run `atlas8k score {studies}`, or start the server on it, once"
    )
    raise LedgerError(f"{path}: there is no ledger yet; {what}")


@contextmanager
def ledger_of(studies: str, ledger: Path | None) -> Iterator[Ledger]:
    """Open the ledger of studies that a server or a scoring has used.

    Raises
    ------
    LedgerError
        Where it does not exist yet.
    """
    from atlas8k.services.studies.opening import use_structures
    from atlas8k.store import Ledger

    opened = Ledger(existing_ledger(studies, ledger))
    try:
        use_structures(opened)
        yield opened
    finally:
        opened.close()


@contextmanager
def label_service_of(studies: str | Path, ledger: Path | None) -> Iterator[LabelService]:
    """Open the labels of studies that a server has used.

    Raises
    ------
    LedgerError
        There is no ledger yet.
    """
    from atlas8k.services.labels.service import LabelService

    label_service = LabelService.open(studies, existing_ledger(studies, ledger))
    try:
        yield label_service
    finally:
        label_service.close()


@contextmanager
def context_of(
    settings: Settings | Mapping[str, str], studies: str | Path, models: Path
) -> Iterator[Context]:
    """Open studies as the server does, with its settings or with the app's ``key=value``."""
    from atlas8k.core.settings import Settings
    from atlas8k.services.opening import open_context

    if not isinstance(settings, Settings):
        settings = Settings.from_conf(dict(settings))
    context = open_context(settings, str(studies), models)
    try:
        yield context
    finally:
        context.close()


@contextmanager
def workers_of(context: Context, cluster: str, models: Path, workers: int) -> Iterator[Workers]:
    """Have a context's volumes predicted on a cluster, or, without an address, by this process."""
    if not cluster:
        from atlas8k.services.scoring import ThisProcess

        yield ThisProcess(context)
        return
    from atlas8k.services.cluster.nodes import connected
    from atlas8k.services.cluster.scoring import Cluster

    with connected(cluster) as ray:
        yield Cluster(context, ray, models, workers)


def acting_holder(name: str = "") -> Holder:
    """Return the holder a command acts as: a name given, or the user of this computer."""
    from atlas8k.store import Holder

    return Holder.identify(user=name or getpass.getuser())


def local_time(seconds: float | None) -> str:
    """Return UTC seconds as local date and time of day."""
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


@contextmanager
def scoring_bar(
    label: str,
) -> Iterator[tuple[Callable[[Progress, float, int], None], Callable[[str], None]]]:
    """Show the progress of a scoring on stderr; yield its report, and a function to print lines."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None, visible=False)

        def report(scored: Progress, seconds_each: float, left: int) -> None:
            pace = f"{scored.failed} failed, {3600 / max(seconds_each, 1e-3):.0f} an hour"
            done = scored.scored + scored.failed
            bar.update(
                task, total=scored.total, completed=done, visible=left > 0,
                description=f"{label}: {pace}",
            )  # fmt: skip

        def print_text(text: str) -> None:
            bar.console.print(text, highlight=False, soft_wrap=True, markup=False)

        yield report, print_text
