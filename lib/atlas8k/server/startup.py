"""What is said when the server starts, and how it ends when it cannot."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from monailabel.config import settings as monailabel_settings

from atlas8k.core.disk import disk_fault
from atlas8k.core.errors import Atlas8kError, SettingsError

logger = logging.getLogger(__name__)

LOCAL = {"127.0.0.1", "localhost", "::1"}


def in_server() -> bool:
    """Return whether this process answers HTTP: scoring and training have their own."""
    return "monailabel.app" in sys.modules


def give_up(error: Exception) -> NoReturn:
    """End the process with the error as its last line and exit code 2.

    An exception here would reach the user as a traceback of the web server's innards,
    followed by lines of its own. Nothing is open yet that an orderly end would close.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.write(f"\natlas8k cannot start: {error}\n")
    sys.stderr.flush()
    if in_server():
        os._exit(2)
    raise SystemExit(2)


def background(task: Callable[[], Any]) -> Any:
    """Run a task of the app: in a process of its own it gives way, and ends in one line.

    MONAI Label shows the last lines of a background process, where a traceback would
    hide the reason. In the server itself an error goes to whoever asked.
    """
    if in_server():
        return task()
    give_way(10)  # a waiting annotator's inference comes first
    try:
        return task()
    except (Atlas8kError, OSError) as err:
        why = disk_fault(err)
        if why is None and not isinstance(err, Atlas8kError):
            raise
        logging.shutdown()
        text = f"{why}, then start it again ({err})" if why else f"{type(err).__name__}: {err}"
        raise SystemExit(text) from err


def give_way(nice: int) -> None:
    """Let this thread, and those it starts from now on, run behind everybody else's.

    The niceness is set, not added to what this was started with: scoring under a server
    that gives way itself would get nothing at all.
    """
    with contextlib.suppress(OSError):  # a container may forbid it; things are slower then
        os.setpriority(os.PRIO_PROCESS, 0, max(nice, os.getpriority(os.PRIO_PROCESS, 0)))


def truth(value: object) -> bool:
    """Return a flag in a request: JSON true, or a word for it."""
    return value is True or str(value).lower() in {"1", "true", "yes", "on"}


def check_datastore() -> None:
    """Refuse MONAI Label's other datastores: this app serves folders and DICOMweb servers.

    Raises
    ------
    SettingsError
        ``MONAI_LABEL_DATASTORE`` names one.
    """
    name = monailabel_settings.MONAI_LABEL_DATASTORE
    if name.lower() in {"xnat", "dsa", "cvat"}:
        raise SettingsError(
            f"MONAI_LABEL_DATASTORE={name}: atlas8k keeps labels with their history, which "
            f"{name} cannot; give --studies a folder of CTs or the URL of a DICOMweb server, "
            "and unset MONAI_LABEL_DATASTORE"
        )


def remove_log_configuration(path: object) -> None:
    """Remove the file with which MONAI Label has set up its log, which it leaves at every start.

    Parameters
    ----------
    path
        As it was given to uvicorn; a file of the user's own is let be.
    """
    if isinstance(path, str):
        file = Path(path)
        if file.parent == Path(tempfile.gettempdir()) and re.fullmatch(r"tmp\w+\.json", file.name):
            with contextlib.suppress(OSError):
                file.unlink()


def bound_to(argv: Sequence[str] | None = None) -> tuple[str, int]:
    """Return the host and port this server was told to listen on.

    MONAI Label passes its app the port but not the host.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-i", "--host", default="0.0.0.0")
    known, _ = parser.parse_known_args(list(sys.argv[1:] if argv is None else argv))
    return str(known.host), int(monailabel_settings.MONAI_LABEL_SERVER_PORT)


def announce(host: str, port: int, studies: str, volumes: int) -> None:
    """Log where to point 3D Slicer and OHIF, and warn where anybody may come in."""
    shown = "127.0.0.1" if host in {"0.0.0.0", "::", ""} else host
    url = f"http://{shown}:{port}"
    logger.info("atlas8k serves %d volumes of %s", volumes, studies)
    logger.info("3D Slicer: module MONAI Label, server URL %s, then Next Sample", url)
    logger.info("OHIF: %s/ohif/ (lists studies when --studies is a DICOMweb URL)", url)
    if host not in LOCAL and not monailabel_settings.MONAI_LABEL_AUTH_ENABLE:
        for line in (
            "*" * 78,
            f"ANYBODY WHO REACHES PORT {port} CAN READ THE IMAGES AND REPLACE LABELS:",
            f"the server listens on {host} and sign-in is off.",
            "Start it with --host 127.0.0.1, or set MONAI_LABEL_AUTH_ENABLE=true.",
            "*" * 78,
        ):
            logger.warning(line)
