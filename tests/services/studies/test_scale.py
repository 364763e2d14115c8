"""What is asked for often costs the same however many volumes there are.

Counted in interpreter instructions and in memory taken, not in time.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from tests.services.studies.kit import write

from atlas8k.services.studies.folder import StudiesFolder

SMALL, LARGE = 500, 20_000
Operation = Callable[[StudiesFolder, Path, int], object]

OPERATIONS: dict[str, Operation] = {
    "status": lambda f, _, n: f.now().status(),
    "find an image": lambda f, _, n: f.known_image(f"c{n:05d}"),
    "look for an image that is not there": lambda f, _, n: f.image("nobody"),
    "image info": lambda f, _, n: f.image_info(f"c{n:05d}"),
    "update image info": lambda f, _, n: (
        f.update_image_info(f"c{n:05d}", {"strategy": {"s": {"ts": n}}}),
        f.now(),
    ),
    "save a label": lambda f, label, n: f.save_label(f"c{n:05d}", "original", label, {"n": n}),
    "submit a label": lambda f, label, n: f.save_label(f"c{n:05d}", "final", label, {"n": n}),
    "update label info": lambda f, _, n: f.update_label_info("c00001", "original", {"n": n}),
    "label info": lambda f, _, n: f.known_label("c00001", "original"),
    "add an image": lambda f, image, n: f.add_image(f"new{n}", image, None),
    "the whole as JSON, unchanged": lambda f, _, n: f.now().document(),
    "another process catching up": lambda f, _, n: f._sync.catch_up(),
}


def instructions(action: Callable[[], object]) -> int:
    """Interpreter instructions that `action` takes in this thread."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return count


def memory(action: Callable[[], object]) -> int:
    """Bytes that `action` has taken at its highest: a copy of a list shows here."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[StudiesFolder, Path]]:
    made = {}
    for count in (SMALL, LARGE):
        root = tmp_path_factory.mktemp(f"studies{count}")
        for n in range(count):
            (root / f"c{n:05d}.nii.gz").touch()
        label = write(tmp_path_factory.mktemp("labels") / "l.nii.gz", b"label")
        folder = StudiesFolder(root, watch=False)
        for n in range(20):
            folder.save_label(f"c{n:05d}", "original", label, {"n": n})
        folder.now().document()
        made[count] = (folder, label)
    return made


def _cost(operation: Operation, folder: StudiesFolder, label: Path) -> tuple[int, int]:
    def once(n: int) -> Callable[[], object]:
        return lambda: operation(folder, label, n)

    folder.now().document()
    for n in (1, 2):  # warm
        once(n)()
    folder.now().document()
    return min(instructions(once(n)) for n in (3, 4)), min(memory(once(n)) for n in (5, 6))


@pytest.mark.parametrize("name", OPERATIONS)
def test_cost_does_not_grow_with_the_number_of_volumes(
    folders: dict[int, tuple[StudiesFolder, Path]], name: str
) -> None:
    cost = {count: _cost(OPERATIONS[name], *folder) for count, folder in folders.items()}
    assert cost[LARGE][0] < 1.5 * cost[SMALL][0] + 200, cost
    assert cost[LARGE][1] < 1.5 * cost[SMALL][1] + 20_000, cost


def test_a_change_costs_the_json_one_images_text(
    folders: dict[int, tuple[StudiesFolder, Path]],
) -> None:
    cost = {}
    for count, (folder, _) in folders.items():
        folder.now().document()
        folder.update_image_info("c00007", {"n": count})
        cost[count] = instructions(lambda f=folder: f.now().document())
    assert cost[LARGE] < 1.5 * cost[SMALL] + 200, cost


def test_the_measure_sees_work_that_grows() -> None:
    assert instructions(lambda: [n for n in range(LARGE)]) > 20 * instructions(  # noqa: C416
        lambda: [n for n in range(SMALL)]  # noqa: C416
    )
    assert memory(lambda: list(range(LARGE))) > 100_000
