"""The test split stays out of searches: by who may name its doors, and by what files are opened."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.search.datasets.folders import COLOURS, write_parts

ROOT = Path(__file__).parents[2]

DOORS = {
    "held_out_canvases": {
        "search/proxy/digits.py",
        "search/proxy/evaluation.py",
        "search/proxy/final.py",
    },
    "held_out_textures": {"search/proxy/textures.py", "search/proxy/final.py"},
    "learn_and_test": {"search/proxy/final.py", "search/workers.py"},
    "held_out_sources": {"search/proxy/digits.py", "search/datasets/sets.py"},
    "held_out_images": {
        "search/datasets/__init__.py",
        "search/datasets/sets.py",
        "search/train/final.py",
    },
    "evaluate_test": {"search/proxy/evaluation.py", "search/workers.py"},
    "measure_held_out": {"search/train/final.py", "search/train/brief.py"},
    "evaluate_on_with_test": {"search/train/brief.py", "search/data_proxy.py"},
    "final_test": {"search/train/final.py", "search/train/__main__.py"},
}
"""What opens test data, and the files that may name it."""


def names(path: Path) -> Iterator[str]:
    """All names that a file uses, imports or defines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias | ast.FunctionDef | ast.ClassDef):
            yield node.name


def test_only_final_reports_name_the_doors_to_test_data() -> None:
    found: dict[str, set[str]] = {door: set() for door in DOORS}
    for room in ("search", "spaces", "experiments"):
        for path in (ROOT / room).rglob("*.py"):
            for door in DOORS.keys() & set(names(path)):
                found[door].add(path.relative_to(ROOT).as_posix())
    assert found == DOORS


LOAD = """
import json, sys
opened = []
sys.addaudithook(
    lambda event, given: opened.append(str(given[0]))
    if event in ("open", "os.listdir", "os.scandir") and given and given[0] is not None else None
)
from search.datasets import DataSettings, held_out_images, load_data

def read(images):
    for number in range(len(images)):
        images.transformed(lambda image: image)[number]
    return [path for path in opened if path.startswith(sys.argv[1])]

data = load_data(DataSettings(source=sys.argv[1]))
read(data.train)
searched = read(data.validation)
print(json.dumps([searched, read(held_out_images(DataSettings(source=sys.argv[1])))]))
"""


@pytest.mark.slow
def test_loading_data_opens_no_file_of_the_test_part(tmp_path: Path) -> None:
    few = dict.fromkeys(COLOURS, 3)
    data = write_parts(tmp_path / "data", train=few, val=few, test=few)
    result = subprocess.run(
        [sys.executable, "-c", LOAD, str(data)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    searched, tested = (
        {path.parts[0] for path in (Path(each).relative_to(data) for each in opened) if path.parts}
        for opened in json.loads(result.stdout)
    )
    # To know which parts there are, their folders' folders are listed, but no deeper.
    deep = [Path(p).relative_to(data).parts for p in json.loads(result.stdout)[0]]
    assert not [parts for parts in deep if parts[0:1] == ("test",) and len(parts) > 1]
    assert searched >= {"train", "val"}
    assert "test" in tested  # the hook does see it
