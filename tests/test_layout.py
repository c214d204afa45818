"""The arrows between the rooms of docs/design.md are those of the sources, and no file has grown into two rooms."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import rstg

REPO = Path(__file__).resolve().parent.parent
SOURCES = REPO / "src" / "rstg"
FILES = [path.relative_to(SOURCES) for path in SOURCES.rglob("*.py")]
ROOMS = sorted({file.parts[0].removesuffix(".py") for file in FILES} - {"__init__"})


def stated() -> dict[str, set[str]]:
    block = re.search(r"```arrows\n(.*?)```", (REPO / "docs" / "design.md").read_text(), re.DOTALL)
    assert block is not None
    lines = [line.partition("->") for line in block[1].splitlines()]
    return {room.strip(): set(others.split()) for room, _, others in lines}


def imported(path: Path) -> set[str]:
    """Rooms that a file imports anywhere in it: at its top, inside functions, or for types alone."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports by relative name"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "rstg":
            names.add(f"rstg.{node.attr}")
    rooms = set()
    for name in names:
        parts = name.split(".")
        if parts[0] == "rstg" and len(parts) > 1 and not parts[1].startswith("__"):
            # What `rstg` itself offers comes from a room too.
            rooms.add(rstg._PUBLIC.get(parts[1], name).split(".")[1])
    return rooms


def test_every_room_is_in_the_picture():
    assert sorted(stated()) == ROOMS, "docs/design.md: one line a room under Arrows, and one row under Rooms"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_what_the_picture_says(room):
    files = [SOURCES / f"{room}.py"] if (SOURCES / f"{room}.py").is_file() else (SOURCES / room).rglob("*.py")
    allowed = stated()[room] | {room}
    for path in files:
        extra = imported(path) - allowed
        assert not extra, f"{path.relative_to(REPO)} imports {sorted(extra)}, which the picture does not allow"


def test_only_the_command_line_reaches_training():
    arrows = stated()
    assert [room for room, others in arrows.items() if "training" in others] == ["cli"]
    assert [room for room, others in arrows.items() if "cli" in others] == ["__main__"]
    assert arrows["graph"] == {"errors"} and not arrows["data"] & {"graph", "models", "training"}


def test_no_file_has_grown_into_two():
    files = [path for folder in ("src", "tests", "benchmarks") for path in (REPO / folder).rglob("*.py")]
    assert not [str(path) for path in files if len(path.read_text().splitlines()) > 400]
