"""A local Orthanc with DICOMweb: configured, started, filled and ended by its pid.

For ``make start-dicom`` and the tests. It takes nobody from outside this machine, has no
DICOM port, and keeps everything in the folder it is given.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import requests

from atlas8k.core.errors import Atlas8kError

PROGRAMS = ("Orthanc", "/usr/sbin/Orthanc", "/usr/local/sbin/Orthanc")
PLUGINS = (
    Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so"),
    Path("/usr/local/share/orthanc/plugins/libOrthancDicomWeb.so"),
)
START_S = 60.0
END_S = 10.0


class OrthancError(Atlas8kError):
    """Orthanc is not installed, does not start, or refuses an instance."""


def program() -> str | None:
    """Orthanc's executable, ``None`` where there is none."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


def plugin() -> Path | None:
    """Its DICOMweb plugin, ``None`` where there is none."""
    return next((path for path in PLUGINS if path.is_file()), None)


def missing() -> tuple[str, ...]:
    """Debian packages that are wanting, by name."""
    found = {"orthanc": program(), "orthanc-dicomweb": plugin()}
    return tuple(name for name, place in found.items() if place is None)


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def configuration(
    folder: Path, port: int, users: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Orthanc's settings: loopback only, no DICOM port, all files in `folder`."""
    return {
        "Name": "atlas8k",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": bool(users),
        "RegisteredUsers": dict(users or {}),
        "DicomServerEnabled": False,
        "WebDavEnabled": False,
        "HttpVerbose": False,
        # A series that comes again with other content takes the place of the first.
        "OverwriteInstances": True,
        "Plugins": [str(plugin())],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False, "Ssl": False},
    }


class Orthanc:
    """One Orthanc; a context manager that ends it.

    Parameters
    ----------
    folder
        For its configuration, storage and log; made if missing, kept afterwards.
    port
        To listen on; a free one, if not given. It stays the same over restarts.
    users
        Names with passwords; without, everybody on this machine may read and write.
    """

    def __init__(
        self, folder: Path, port: int | None = None, users: Mapping[str, str] | None = None
    ) -> None:
        self.folder, self.port = folder, port or free_port()
        self._users = dict(users or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of its own REST interface."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def dicomweb(self) -> str:
        """What ``--studies`` is given."""
        return f"{self.url}/dicom-web"

    @property
    def pid(self) -> int:
        """Of the running process.

        Raises
        ------
        OrthancError
            It does not run.
        """
        if self._process is None:
            raise OrthancError("Orthanc does not run")
        return self._process.pid

    def __enter__(self) -> Orthanc:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises
        ------
        OrthancError
            A package is missing, named here; or it does not answer.
        """
        wanting = missing()
        if wanting:
            raise OrthancError(
                f"missing: {', '.join(wanting)}; on Debian and Ubuntu: "
                f"sudo apt-get install --no-install-recommends {' '.join(wanting)}"
            )
        (self.folder / "storage").mkdir(parents=True, exist_ok=True)
        settings = self.folder / "orthanc.json"
        settings.write_text(
            json.dumps(configuration(self.folder, self.port, self._users)), encoding="utf-8"
        )
        settings.chmod(0o600)  # passwords
        with open(self.log, "ab") as stream:
            self._process = subprocess.Popen(
                [str(program()), str(settings)],
                cwd=self.folder,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C ends what runs on top of it first
            )
        end = time.monotonic() + START_S
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > end:
                last = self.log.read_text(errors="replace").splitlines()[-1:]
                self.stop()
                raise OrthancError(f"Orthanc does not start: {' '.join(last)} ({self.log})")
            time.sleep(0.05)

    @property
    def log(self) -> Path:
        """What it prints."""
        return self.folder / "orthanc.log"

    def answers(self) -> bool:
        """Whether it answers now."""
        with contextlib.suppress(requests.RequestException):
            return self._get("/system").status_code == 200
        return False

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the process by its pid, with SIGKILL where it does not end by itself."""
        if self._process is None:
            return
        for one in (number, signal.SIGKILL):
            if self._process.poll() is None:
                self._process.send_signal(one)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_S)
                break
        self._process = None

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self.stop(signal.SIGKILL)

    def pause(self) -> None:
        """Stop the process: who asks it waits."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def upload(self, files: Iterable[Path]) -> list[str]:
        """Store DICOM files; Orthanc's ids of their instances.

        Raises
        ------
        OrthancError
            One is refused.
        """
        return [self.upload_bytes(path.read_bytes(), path.name) for path in files]

    def upload_bytes(self, content: bytes, name: str = "instance") -> str:
        """Store one DICOM file; see :meth:`upload`."""
        answer = requests.post(
            f"{self.url}/instances", data=content, auth=self._auth(), timeout=START_S
        )
        if answer.status_code != 200:
            raise OrthancError(f"{name}: Orthanc refuses it ({answer.status_code})")
        return str(answer.json()["ID"])

    def series(self) -> dict[str, str]:
        """Orthanc's own ids of the series it has, by SeriesInstanceUID."""
        found = self._get("/series?expand").json()
        return {one["MainDicomTags"]["SeriesInstanceUID"]: one["ID"] for one in found}

    def delete_series(self, uid: str) -> None:
        """Delete a series.

        Raises
        ------
        OrthancError
            It is not there.
        """
        own = self.series().get(uid)
        if own is None:
            raise OrthancError(f"there is no series {uid}")
        requests.delete(f"{self.url}/series/{own}", auth=self._auth(), timeout=START_S)

    def _get(self, path: str) -> requests.Response:
        return requests.get(self.url + path, auth=self._auth(), timeout=START_S)

    def _auth(self) -> tuple[str, str] | None:
        return next(iter(self._users.items()), None)
