"""Shared by all tests: seeded, one thread each, property tests without a clock."""

from __future__ import annotations

import os
from collections.abc import Iterator

# numpy reads it when it is loaded, in processes that tests start as well.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import pytest
import torch
from hypothesis import settings

# A first example imports, compiles caches and shares its core: no per-example deadline.
settings.register_profile("quick", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("quick")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """One thread for fixtures of modules too: another number of threads adds up in other orders."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded_on_one_thread(_one_thread: None) -> Iterator[None]:
    """Start every test from the same random state; workers of a parallel run share the cores."""
    torch.manual_seed(0)
    yield
    torch.set_num_threads(1)
