"""Tables of the commands: nothing is cut, nothing is wider than the terminal."""

from __future__ import annotations

import pytest

from atlas8k.cli.terminal_tables import print_table

UID = "1.2.826.0.1.3680043.8.498.12345678901234567890123456789012345678"
COLUMNS = ("rank", "volume", "attention ml", "organs")
ORGANS = "liver 406.6, stomach 159.0, spleen 146.1, kidney_right 61.7, gall_bladder 36.9"


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Prints rows at a width; the lines."""

    def at(width: int, rows: list[tuple[str, ...]], **more: object) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(width))
        named = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        print_table(named, left=["volume"], fold=["organs"], key="volume", **more)
        return [line.rstrip() for line in capsys.readouterr().out.splitlines()]

    return at


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("volume", ["case_0001", UID[:30], UID[:50]])
def test_everything_is_there_and_fits(printed, width: int, volume: str) -> None:
    lines = printed(width, [("1", volume, "1074.5", ORGANS), ("12", "b", "3.0", "")])
    assert max(map(len, lines)) <= width
    assert any(volume in line for line in lines)
    said = " ".join(" ".join(lines).split())
    assert "…" not in said
    for word in (*ORGANS.split(), "1074.5", "attention", "organs"):
        assert word in said


def test_what_fits_is_one_line_a_row(printed) -> None:
    lines = printed(80, [("1", "case_0001", "1074.5", "liver 406.6")], title="List")
    assert lines == [
        "List",
        "rank  volume     attention ml  organs",
        "   1  case_0001        1074.5  liver 406.6",
    ]


def test_an_id_that_leaves_no_room_heads_its_row(printed) -> None:
    lines = printed(80, [("1", UID, "1074.5", "liver [406.6], spleen 1.0")])
    assert lines == [f"rank 1  {UID}", "    attention ml 1074.5; organs liver [406.6], spleen 1.0"]


def test_a_column_with_nothing_in_it_is_left_out(printed) -> None:
    assert printed(80, [("1", "a", "", "liver")])[0] == "rank  volume  organs"
    assert printed(80, [], title="List") == ["List"]
