"""The structure set: what is annotated, each with id, name, aliases, colour and SNOMED CT code.

A process works with one set, :func:`use` says which: a server by its setting ``structures``, a
command by what the store of its studies was begun with. :data:`ORGANS`, :data:`ORGAN_NAMES` and
:data:`ORGAN_IDS` are views of that set, so they must not be copied where a module is imported.
Without anything said it is the nine of AbdomenAtlas 1.0 (Qu et al., NeurIPS 2023).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import overload

from atlas8k.core.structure_sets import (
    DEFAULT_SET,
    Organ,
    StructureSet,
    built_in,
    known_words,
    normalise,
)

_in_use: StructureSet | None = None


def in_use() -> StructureSet:
    """Return the set that this process works with."""
    return _in_use or built_in(DEFAULT_SET)


def use(structures: StructureSet) -> None:
    """Make a set the one that this process works with, from now on."""
    global _in_use  # noqa: PLW0603
    _in_use = structures


@contextlib.contextmanager
def using(structures: StructureSet) -> Iterator[None]:
    """Work with a set for a while."""
    before = in_use()
    use(structures)
    try:
        yield
    finally:
        use(before)


class _Organs(Sequence[Organ]):
    """The structures in use, by id."""

    @overload
    def __getitem__(self, index: int) -> Organ: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Organ, ...]: ...
    def __getitem__(self, index: int | slice) -> Organ | tuple[Organ, ...]:
        return in_use().organs[index]

    def __len__(self) -> int:
        return len(in_use().organs)

    def __repr__(self) -> str:
        return repr(in_use().organs)


class _Names(Sequence[str]):
    """The names of the structures in use, by id."""

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        return in_use().names[index]

    def __iter__(self) -> Iterator[str]:
        return iter(in_use().names)

    def __contains__(self, name: object) -> bool:
        return name in in_use().ids

    def __len__(self) -> int:
        return len(in_use().names)

    def __eq__(self, other: object) -> bool:
        return in_use().names == other

    def __hash__(self) -> int:
        return hash(in_use().names)

    def __repr__(self) -> str:
        return repr(in_use().names)


class _Ids(Mapping[str, int]):
    """Id by name of the structures in use."""

    def __getitem__(self, name: str) -> int:
        return in_use().ids[name]

    def __iter__(self) -> Iterator[str]:
        return iter(in_use().ids)

    def __len__(self) -> int:
        return len(in_use().ids)

    def __repr__(self) -> str:
        return repr(dict(in_use().ids))


ORGANS: Sequence[Organ] = _Organs()
ORGAN_NAMES: Sequence[str] = _Names()
ORGAN_IDS: Mapping[str, int] = _Ids()


def parts_of(organ_id: int) -> tuple[int, ...]:
    """Return the label values that make up a structure in use: its own, and those within it."""
    return in_use().parts.get(organ_id, (organ_id,))


def containers(names: Sequence[str]) -> tuple[int, ...]:
    """Return of each name the place in `names` of the innermost structure that it lies within.

    -1: it lies within none of them, as all of a set without ``within``.
    """
    structures = in_use()
    at = {name: place for place, name in enumerate(names)}
    found = []
    for name in names:
        outer = [
            structures.organs[number - 1]
            for number, parts in structures.parts.items()
            if structures.ids.get(name) in parts[1:]
        ]
        outer.sort(key=lambda one: -structures.depths[one.id])
        found.append(next((at[one.name] for one in outer if one.name in at), -1))
    return tuple(found)


def find_organ(name: str) -> Organ | None:
    """Return the structure in use of that name or alias, ``None`` where there is none.

    Case, blanks and hyphens do not matter: ``"Left Kidney"`` is ``kidney_left``.
    """
    return in_use().by_word.get(normalise(name))


def find_known(name: str) -> str | None:
    """Return the structure of that name or alias, in use or known to this project; else None."""
    organ = find_organ(name)
    return organ.name if organ else known_words().get(normalise(name))
