"""Read stated orientations of files whose headers lack their geometry.

``orientation.yaml`` in a folder of CTs, a mapping of names to axes or forms::

    case_17: LPS       # by name without suffix, in a tree of cases by the case's folder
    BTCV_*: RAS        # or by pattern
    odd_one: qform     # where a header holds two geometries: the one that is right

A name counts before a pattern, an earlier pattern before a later one. The file is read again
when it changes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from atlas8k.core.errors import GeometryError
from atlas8k.core.nifti_geometry import check_stated

STATED_NAME = "orientation.yaml"


Statements = Mapping[str, str]


def stated_for(path: Path, read: Callable[[Path], Statements] | None = None) -> str | None:
    """Return the orientation stated for a CT's file, in its folder or in the one above.

    Parameters
    ----------
    read
        Reads a file of statements in place of :func:`read_statements`, such as one that looks
        at each but once.

    Raises
    ------
    GeometryError
        The file of statements cannot be read, or holds something that is no orientation.
    """
    stem = path.name.lower().removesuffix(".gz").removesuffix(".nii")
    file_name, case_name = path.name[: len(stem)], path.parent.name
    for folder, name in ((path.parent, file_name), (path.parent.parent, case_name)):
        statements = (read or read_statements)(folder / STATED_NAME)
        if name in statements:
            return statements[name]
        for pattern, value in statements.items():
            if fnmatchcase(name, pattern):
                return value
    return None


def read_statements(file: Path) -> Statements:
    """Return what a file states, by name or pattern; nothing where there is none.

    Raises
    ------
    GeometryError
        As :func:`stated_for`.
    """
    try:
        stat = file.stat()
    except OSError:
        return {}
    return _parsed(file, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=64)
def _parsed(file: Path, _mtime_ns: int, _size: int) -> Mapping[str, str]:
    import yaml

    try:
        entries = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, yaml.YAMLError) as err:
        reason = " ".join(str(err).split())
        raise GeometryError(file, f"cannot be read ({reason}); write NAME: RAS a line") from err
    if not isinstance(entries, dict):
        raise GeometryError(file, "must be a mapping; write NAME: RAS a line")
    statements = {}
    for name, value in entries.items():
        try:
            statements[str(name)] = check_stated(str(value))
        except ValueError as err:
            raise GeometryError(file, f"{name}: {err}") from err
    return statements
