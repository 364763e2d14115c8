"""Keep the folder of networks: embedded, published and imported ones, and which set is served.

::

    model/
      embedded/{swin_unetr,unet,nnunet}.safetensors   comes with the project, only read
      embedded/trained_range.json                     features of the CTs they were trained on
      embedded/predicted_quality.json                 what was learnt of their errors
      <model version>/{...}.safetensors, set.json         published sets, never changed
      served.json                                     names the one that is served
      imported/<name>.safetensors                     imported networks, not served by themselves

A set is written beside, renamed into place when complete, and only then named in
``served.json``, itself replaced in one rename. After any interruption the set that was
served before is still served.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from atlas8k.core.errors import CheckpointError, ServedChangedError
from atlas8k.core.files import publishing, write_json
from atlas8k.models.header import read_header
from atlas8k.models.sets import (
    EMBEDDED,
    SET_FILE,
    SET_FORMAT,
    SUFFIX,
    ServedSet,
    file_sha256,
    hash_files,
    name_model_version,
    open_set,
    quality_file,
    read_description,
    with_quality,
)

if TYPE_CHECKING:
    from atlas8k.models.checkpoint import Checkpoint

__all__ = ["EMBEDDED", "ModelStore", "Network", "ServedSet"]

SERVED_FILE = "served.json"
SERVED_FORMAT = "atlas8k-served/1"
UNFINISHED = ".publishing-"
IMPORTED = "imported"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Network:
    """A network on this machine.

    Attributes
    ----------
    name, file
        Its name, and its file.
    architecture
        Name of its class.
    organs
        Organs it segments.
    origin
        Origin of its weights, in a few words; `sha256` is that of the imported file, or of
        `file` where they were trained here.
    size
        Size of `file`, bytes.
    served
        Whether the app predicts with it.
    problem
        Reason why it cannot be used; empty where it can.
    """

    name: str
    file: Path
    architecture: str = ""
    organs: tuple[str, ...] = ()
    origin: str = ""
    sha256: str = ""
    size: int = 0
    served: bool = False
    problem: str = ""


class ModelStore:
    """Sets of networks under one folder.

    Parameters
    ----------
    root
        The folder; made when something is published.
    attention_settings
        JSON object of the settings that change a score (attention, prediction); part of the
        model version.
    off
        Nothing is served, whatever there is.

    Notes
    -----
    Reading takes no lock and may go on while another process publishes; publishing
    processes wait for each other.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        attention_settings: Mapping[str, Any] | None = None,
        *,
        off: bool = False,
    ) -> None:
        self.root, self._off = Path(root), off
        self.attention_settings = dict(attention_settings or {})

    def served(self) -> ServedSet:
        """Return the set that is served.

        A network whose file is gone or was changed is left out of it. A set without a
        description or without a whole network is logged as an error, and the one served
        before it stands in, at last the embedded one.

        Raises
        ------
        CheckpointError
            There is no usable set, not even embedded; or it is off.
        """
        if self._off:
            raise CheckpointError(self.root, "networks are off (--conf networks off)")
        for folder in self._candidates():
            try:
                return self._open(folder)
            except CheckpointError as err:
                log.error("the served networks cannot be used, falling back: %s", err)
        return self._open(EMBEDDED)

    def publish(
        self,
        checkpoints: Mapping[str, Checkpoint],
        note: str = "",
        *,
        alone: bool = False,
        expected: str | None = None,
    ) -> str:
        """Store a set and serve it.

        Parameters
        ----------
        checkpoints
            By network. Networks of the served set that are not among them are copied from
            it, so that a set is always complete.
        note
            Stored with the set: what it was trained on, its scores.
        alone
            The set is these checkpoints only; nothing is copied.
        expected
            Model version that must still be served, as the one these were compared with.

        Returns
        -------
        str
            The model version, under which the set is served from now on.

        Raises
        ------
        CheckpointError
            A checkpoint does not fit its network; nothing is changed.
        ServedChangedError
            Another set than `expected` is served; nothing is changed.
        ValueError
            No checkpoint given.
        """
        from atlas8k.content.familiar import RANGE_FILE
        from atlas8k.models.checkpoint import save_checkpoint  # torch: only where it is needed

        if not checkpoints:
            raise ValueError("there is no checkpoint to publish")
        with self._lock():
            before: ServedSet | None = None
            with suppress(CheckpointError):
                before = self.served()
            if expected is not None and (before is None or before.model_version != expected):
                now = "nothing" if before is None else before.model_version
                raise ServedChangedError(
                    self.root, f"{now} is served by now, no longer {expected}; compare again"
                )
            folder = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=self.root))
            try:
                if before and before.missing and not alone:
                    missing = "; ".join(before.missing[name] for name in before.missing)
                    log.error("what is published lacks a network of the set before: %s", missing)
                for name, path in (before.checkpoints if before else {}).items():
                    if name not in checkpoints and not alone:
                        with publishing(folder / path.name) as temporary:
                            shutil.copyfile(path, temporary)
                # The new networks go on from these, which have been trained on CTs of these ranges.
                if before and not alone and before.ranges:
                    write_json(folder / RANGE_FILE, before.ranges)
                for name, checkpoint in checkpoints.items():
                    save_checkpoint(folder / f"{name}{SUFFIX}", checkpoint)
                if before and (quality := quality_file(self.root / before.folder)):
                    shutil.copyfile(quality, folder / quality.name)
                hashes = hash_files(folder)
                model_version = name_model_version(
                    hashes, with_quality(self.attention_settings, folder)
                )
                write_json(
                    folder / SET_FILE,
                    {
                        "format": SET_FORMAT,
                        "files": hashes,
                        "note": note,
                        "published": _now(),
                        "parent": before.folder if before else EMBEDDED,
                    },
                )
                self._move_in(folder, model_version)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            self._name_served(model_version, note)
        log.info("networks %s are served: %s", model_version, note)
        return model_version

    def serve(self, folder: str, note: str = "") -> ServedSet:
        """Serve an existing set: a published one or ``"embedded"``.

        Raises
        ------
        CheckpointError
            It is missing or damaged; the served set stays.
        """
        with self._lock():
            opened = self._open(folder)
            if opened.missing and folder != EMBEDDED:
                raise CheckpointError(self.root / folder, "; ".join(opened.missing.values()))
            self._name_served(folder, note)
        return opened

    def rollback(self, note: str = "rolled back") -> ServedSet:
        """Serve the set that was served when the present one was published.

        Raises
        ------
        CheckpointError
            The embedded set is served; nothing came before it.
        """
        folder = self._served_json().get("served", EMBEDDED)
        if folder == EMBEDDED:
            raise CheckpointError(self.root, "the embedded networks are served; none came before")
        return self.serve(str(read_description(self.root / folder)["parent"]), note)

    def history(self) -> list[dict[str, str]]:
        """Return the served sets, oldest first: ``set``, ``when`` (UTC, ISO), ``note``."""
        return [dict(entry) for entry in self._served_json().get("history", [])]

    def add_imported(self, checkpoint: Checkpoint, replace: bool = False) -> Path:
        """Store an imported network, its weights as float32 so that it predicts the same.

        Raises
        ------
        CheckpointError
            Its tensors do not fit, or one of its name exists and `replace` is not set.
        """
        from atlas8k.models.checkpoint import save_checkpoint

        path = self.root / IMPORTED / f"{checkpoint.name}{SUFFIX}"
        if path.exists() and not replace:
            raise CheckpointError(
                path, "is there already; give another --name, or --replace to put this in its place"
            )
        return save_checkpoint(path, checkpoint, half=False)

    def load_imported(self, name: str) -> Checkpoint:
        """Load an imported network by name.

        Raises
        ------
        CheckpointError
            There is none, or it is damaged.
        """
        path = self.root / IMPORTED / f"{name}{SUFFIX}"
        if name != Path(name).name or not path.is_file():
            names = ", ".join(imported.stem for imported in self._imported())
            raise CheckpointError(path, f"no such network; imported are: {names or 'none'}")
        from atlas8k.models.checkpoint import load_checkpoint  # torch: only where it is needed

        return load_checkpoint(path)

    def networks(self) -> list[Network]:
        """Return the networks that are served, in their order, then those imported and not served.

        A network counts as served where the served set has one of its name from the same
        source. Files are not loaded: only their descriptions are read.
        """
        served = [_describe(n, p, served=True) for n, p in self.served().checkpoints.items()]
        known = {(network.name, network.sha256) for network in served}
        others = [_describe(path.stem, path, served=False) for path in self._imported()]
        return served + [n for n in others if (n.name, n.sha256) not in known]

    def _imported(self) -> list[Path]:
        return sorted((self.root / IMPORTED).glob(f"[!.]*{SUFFIX}"))

    def _candidates(self) -> Iterator[str]:
        """Yield folders to try, best first, without embedded, which is the caller's last resort."""
        state = self._served_json()
        if state:
            # The sets served before the present one first was; a later one that was rolled
            # back from does not come back by itself.
            past = [str(entry["set"]) for entry in state["history"]]
            served = str(state["served"])
            before = past[: past.index(served)] if served in past else past
            named = [served, *reversed(before)]
        else:
            named = self._by_date() if (self.root / SERVED_FILE).exists() else []
        for folder in dict.fromkeys(named):
            if folder == EMBEDDED:
                return
            yield folder

    def _by_date(self) -> list[str]:
        dated = []
        for path in self.root.glob(f"[!.]*/{SET_FILE}"):
            try:
                dated.append((str(read_description(path.parent)["published"]), path.parent.name))
            except CheckpointError:
                continue
        return [name for _, name in sorted(dated, reverse=True)]

    def _open(self, folder: str) -> ServedSet:
        if folder != Path(folder).name:
            raise CheckpointError(self.root / folder, "is not the name of a set")
        return open_set(self.root / folder, self.attention_settings)

    def _served_json(self) -> dict[str, Any]:
        """Read ``served.json``; empty where there is none or it is damaged."""
        path = self.root / SERVED_FILE
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            if state["format"] != SERVED_FORMAT or not isinstance(state["served"], str):
                raise ValueError(f"format is not {SERVED_FORMAT}")
            if not all(isinstance(entry["set"], str) for entry in state["history"]):
                raise ValueError("its history is damaged")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as err:
            log.error("%s is damaged (%s); the newest published networks stand in", path, err)
            return {}
        content: dict[str, Any] = state
        return content

    def _name_served(self, folder: str, note: str) -> None:
        history = [*self.history(), {"set": folder, "when": _now(), "note": note}]
        write_json(
            self.root / SERVED_FILE,
            {"format": SERVED_FORMAT, "served": folder, "history": history},
        )

    def _move_in(self, folder: Path, model_version: str) -> None:
        """Give a complete folder its final name, unless an intact one is there already."""
        target = self.root / model_version
        if target.exists():
            try:
                damage: object = self._open(model_version).missing
            except CheckpointError as err:
                damage = err
            if not damage:
                return
            log.error("replacing a damaged set: %s", damage)
            aside = Path(tempfile.mkdtemp(prefix=f"{UNFINISHED}damaged-", dir=self.root))
            os.replace(target, aside / model_version)
        folder.chmod(0o755)
        os.replace(folder, target)  # on disk with `served.json`, which is written next

    @contextmanager
    def _lock(self) -> Iterator[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / ".lock"):
            for path in self.root.glob(f"{UNFINISHED}*"):  # left by a process that died
                shutil.rmtree(path, ignore_errors=True)
            yield


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _describe(name: str, path: Path, served: bool) -> Network:
    try:
        header = read_header(path)
        origin = dict(header["origin"])
        kind = origin.get("imported_as")
        made_here = f"trained on {origin['cases']} volumes" if "cases" in origin else "not stated"
        return Network(
            name=name,
            file=path,
            architecture=str(header["architecture"]["name"]),
            organs=tuple(header["organs"]),
            origin=f"{kind}: {origin.get('file', '')}" if kind else made_here,
            sha256=str(origin["sha256"] if "sha256" in origin else file_sha256(path)),
            size=path.stat().st_size,
            served=served,
        )
    except (CheckpointError, KeyError, TypeError, ValueError, OSError) as err:
        return Network(name=name, file=path, served=served, problem=str(err))
