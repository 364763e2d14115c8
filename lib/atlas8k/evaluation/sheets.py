"""CSV from anyone: delimiter and byte-order mark found out, rows numbered, doubles refused."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from atlas8k.evaluation.errors import EvaluationError
from atlas8k.evaluation.summary_rows import kind_of_row
from atlas8k.organs import normalise

CASE_COLUMNS = (
    "name", "case", "case_id", "image_id", "image", "id", "volume", "volume_id", "subject",
    "subject_id", "patient", "patient_id", "bdmap_id", "filename", "file",
)  # fmt: skip
"""Headers under which the case is looked for, normalised, in this order."""

_DELIMITERS = ",;\t|"
_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")


@dataclass(frozen=True)
class Sheet:
    """A CSV with one row a case.

    Attributes
    ----------
    path
        The file.
    columns
        Headers without the case's, as written.
    rows
        Case name to ``(line of the file, fields in column order)``; file order.
    case_column
        Header of the case's column, as written.
    decimal_comma
        Whether a comma inside a field is a decimal sign (the delimiter is another).
    summaries
        Line and name of each row that sums up the others (``mean``, ``std``): no case.
    doubtful
        Names among `rows` that may be a case or sum up the others (``max``).
    """

    path: Path
    columns: tuple[str, ...]
    rows: dict[str, tuple[int, tuple[str, ...]]]
    case_column: str
    decimal_comma: bool
    summaries: tuple[tuple[int, str], ...] = ()
    doubtful: tuple[str, ...] = ()


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as err:
        raise EvaluationError(path, f"cannot be read ({err.strerror})") from err
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as err:
        raise EvaluationError(path, "is not UTF-8 text; save it as CSV in UTF-8") from err


def case_name(text: str) -> str:
    """A case's name without blanks around it and without an image file's suffix."""
    name = text.strip()
    for suffix in _SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def read_sheet(path: str | Path) -> Sheet:
    """Read a CSV whose rows are cases.

    The delimiter is the one of ``, ; tab |`` that the header has most of. Empty lines are
    skipped, and rows that sum up the others are no cases. The case is the first column named
    as in :data:`CASE_COLUMNS`.

    Raises
    ------
    EvaluationError
        Where the file cannot be read or is empty, has no case column, names a column or a
        case twice, or a row has more or fewer fields than the header.
    """
    path = Path(path)
    lines = _text(path).splitlines()
    if not any(line.strip() for line in lines):
        raise EvaluationError(path, "is empty; a header and one row a case are needed")
    start = next(n for n, line in enumerate(lines) if line.strip())
    delimiter = max(_DELIMITERS, key=lines[start].count)
    reader = csv.reader(lines[start:], delimiter=delimiter)
    try:
        header = [field.strip() for field in next(reader)]
    except csv.Error as err:
        raise EvaluationError(path, f"is not CSV ({err})", start + 1) from err
    names = [normalise(field) for field in header]
    for name in names:
        if name and names.count(name) > 1:
            raise EvaluationError(path, f"has two columns named {name!r}", start + 1)
    found = [name for name in CASE_COLUMNS if name in names]
    if not found:
        raise EvaluationError(
            path,
            f"has no column for the case among {', '.join(header[:12])}; name it 'name'",
            start + 1,
        )
    at = names.index(found[0])
    try:
        read = [
            (start + reader.line_num, fields)
            for fields in reader
            if any(field.strip() for field in fields)
        ]
    except csv.Error as err:
        raise EvaluationError(path, f"is not CSV ({err})", start + reader.line_num) from err
    cases = [case_name(fields[at]) if len(fields) > at else "" for _, fields in read]
    kinds = [kind_of_row(case, cases) for case in cases]
    rows: dict[str, tuple[int, tuple[str, ...]]] = {}
    for (line, fields), case, kind in zip(read, cases, kinds, strict=True):
        if kind == "summary":
            continue
        if len(fields) != len(header):
            raise EvaluationError(
                path, f"has {len(fields)} fields where the header has {len(header)}", line
            )
        if not case:
            raise EvaluationError(path, "has no case name", line)
        if case in rows:
            raise EvaluationError(
                path, f"case {case} is there already, in row {rows[case][0]}; keep one", line
            )
        rest = (field.strip() for n, field in enumerate(fields) if n != at)
        rows[case] = (line, tuple(rest))
    summaries = tuple(
        (line, case)
        for (line, _), case, kind in zip(read, cases, kinds, strict=True)
        if kind == "summary"
    )
    if not rows:
        raise EvaluationError(
            path, f"has {'rows that sum up cases' if summaries else 'a header'} and no case"
        )
    doubtful = tuple(c for c, kind in zip(cases, kinds, strict=True) if kind == "either")
    columns = tuple(field for n, field in enumerate(header) if n != at)
    return Sheet(path, columns, rows, header[at], delimiter != ",", summaries, doubtful)
