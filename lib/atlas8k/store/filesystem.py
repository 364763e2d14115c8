"""Where a ledger may lie: SQLite's WAL needs memory shared between its processes."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from pathlib import Path

import psutil

logger = logging.getLogger(__name__)

LEDGER_NAME = "ledger.sqlite"
FOLDER_NAME = ".atlas8k"

NETWORK_TYPES = """
    nfs nfs4 cifs smb2 smb3 smbfs ncpfs afs coda 9p ceph glusterfs lustre gpfs beegfs pvfs2
    orangefs davfs davfs2 vboxsf fuse.sshfs fuse.s3fs fuse.gcsfuse fuse.glusterfs fuse.rclone
    fuse.ceph fuse.ceph-fuse fuse.davfs fuse.mount-s3 fuse.goofys fuse.juicefs
"""


def network_type(path: Path) -> str | None:
    """Return the type of the network file system that holds `path`, None for a local one.

    WAL does not work there. `path` need not exist yet.
    """
    target, depth, kind = path.resolve(), -1, ""
    for mount in psutil.disk_partitions(all=True):
        point = Path(mount.mountpoint)
        # Later ones are mounted over earlier ones at the same point.
        if target.is_relative_to(point) and len(point.parts) >= depth:
            depth, kind = len(point.parts), mount.fstype
    return kind if kind in NETWORK_TYPES.split() else None


def is_url(studies: str) -> bool:
    """Return whether studies are on a DICOMweb server and not in a folder."""
    return re.match(r"\s*https?://", studies) is not None


def locate(studies: str, data_folder: Path | None = None) -> Path:
    """Return the ledger's file for a studies folder or DICOMweb URL.

    Beside the studies where that is a local disk, else in `data_folder`, by default one for
    each on this machine; logged. A slash at the end of a URL makes no difference.
    """
    if is_url(studies):
        key, why = studies.strip().rstrip("/"), "Studies are on a server"
    else:
        folder = Path(studies).resolve()
        kind = network_type(folder)
        if kind is None:
            return folder / FOLDER_NAME / LEDGER_NAME
        key, why = str(folder), f"{folder} is on a network file system ({kind})"
    if data_folder is None:
        base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
        data_folder = Path(base) / "atlas8k" / hashlib.sha256(key.encode()).hexdigest()[:16]
    path = data_folder / LEDGER_NAME
    logger.log(logging.INFO if is_url(studies) else logging.WARNING, "%s: ledger at %s", why, path)
    return path
