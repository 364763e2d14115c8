"""Where a ledger may lie: SQLite's WAL needs memory shared between its processes."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from pathlib import Path

logger = logging.getLogger(__name__)

LEDGER_NAME = "ledger.sqlite"
FOLDER_NAME = ".atlas8k"

NETWORK_TYPES = """
    nfs nfs4 cifs smb2 smb3 smbfs ncpfs afs coda 9p ceph glusterfs lustre gpfs beegfs pvfs2
    orangefs davfs davfs2 vboxsf fuse.sshfs fuse.s3fs fuse.gcsfuse fuse.glusterfs fuse.rclone
    fuse.ceph fuse.ceph-fuse fuse.davfs fuse.mount-s3 fuse.goofys fuse.juicefs
"""


def file_system_type(path: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """Return the type of the file system that holds `path`, which need not exist yet.

    Where there is no mount table (not Linux) the answer is ``""``.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    target = path.resolve()
    best, kind = -1, ""
    for line in lines:
        fields = line.split()
        if len(fields) < 3:
            continue
        # Mount points have blanks as octal escapes.
        point = Path(re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), fields[1]))
        # Later lines are mounted over earlier ones at the same point.
        if target.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), fields[2]
    return kind


def is_network(path: Path, mounts: Path = Path("/proc/mounts")) -> bool:
    """Return whether `path` lies on a network file system, where WAL does not work."""
    return file_system_type(path, mounts) in NETWORK_TYPES.split()


def local_data_folder(studies: str) -> Path:
    """Return a folder on this machine for studies that cannot hold a ledger, one for each."""
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    name = hashlib.sha256(studies.encode()).hexdigest()[:16]
    return Path(base) / "atlas8k" / name


def is_url(studies: str) -> bool:
    """Return whether studies are on a DICOMweb server and not in a folder."""
    return re.match(r"\s*https?://", studies) is not None


def locate(
    studies: str, data_folder: Path | None = None, mounts: Path = Path("/proc/mounts")
) -> Path:
    """Return the ledger's file for a studies folder or DICOMweb URL.

    Beside the studies where that is a local disk, else in `data_folder` (default
    :func:`local_data_folder`); logged. A slash at the end of a URL makes no difference.
    """
    if is_url(studies):
        url = studies.strip().rstrip("/")
        path = (data_folder or local_data_folder(url)) / LEDGER_NAME
        logger.info("Studies are on a server: ledger at %s", path)
        return path
    folder = Path(studies).resolve()
    if is_network(folder, mounts):
        path = (data_folder or local_data_folder(str(folder))) / LEDGER_NAME
        logger.warning(
            "%s is on a network file system (%s): ledger at %s",
            folder,
            file_system_type(folder, mounts),
            path,
        )
        return path
    return folder / FOLDER_NAME / LEDGER_NAME
