"""Imports point one way, and what needs no torch loads none."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.effvit.fresh import run_fresh

ROOT = Path(__file__).parent.parent

MAY_IMPORT: dict[str, set[str]] = {
    "effvit": set(),
    "spaces": {"effvit"},
    "search": {"effvit", "spaces"},
    "experiments": {"effvit", "spaces", "search"},
    "reports": set(),
}
"""Rooms, and the other rooms that each may import; reports read record files only."""

TORCH_FREE_ROOMS = ("spaces", "reports")
TORCH = {"torch", "torchvision", "timm", "fvcore", "ptflops"}

FILES = sorted(
    path.relative_to(ROOT).as_posix() for room in MAY_IMPORT for path in (ROOT / room).rglob("*.py")
)


def imported(path: str) -> Iterator[str]:
    """Top-level names of all imports of a file, those inside functions included."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} has a relative import"
            yield (node.module or "").partition(".")[0]


def test_rooms_have_files() -> None:
    assert {path.partition("/")[0] for path in FILES} == set(MAY_IMPORT)


@pytest.mark.parametrize("path", FILES)
def test_imports_point_one_way(path: str) -> None:
    room = path.partition("/")[0]
    others = set(imported(path)) & {*MAY_IMPORT, "tests"} - {room}
    assert others <= MAY_IMPORT[room]


@pytest.mark.parametrize("path", [p for p in FILES if p.startswith(TORCH_FREE_ROOMS)])
def test_spaces_and_reports_name_no_torch(path: str) -> None:
    assert not set(imported(path)) & TORCH


@pytest.mark.parametrize("room", ["effvit", *TORCH_FREE_ROOMS])
def test_importing_loads_no_torch(room: str) -> None:
    """Also through what they import; costing a network counts as well."""
    modules = [room]
    if room in TORCH_FREE_ROOMS:
        files = (ROOT / room).glob("[!_]*.py")
        modules += [f"{room}.{path.stem}" for path in sorted(files)]
    loaded = run_fresh(
        f"import sys, effvit, {', '.join(modules)}\n"
        "effvit.model_cost('sepvit_tiny')\n"
        "effvit.model_costs([effvit.model_config('sepvit_tiny')])\n"
        f"print(*sorted({TORCH} & set(sys.modules)))"
    )
    assert not loaded
