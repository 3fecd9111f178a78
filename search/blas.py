"""Linear algebra of small matrices, on one thread."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

from threadpoolctl import ThreadpoolController


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let numpy's and scipy's linear algebra use one thread; a context, or a decorator.

    Where matrices are small, more threads only wait for each other, in CPU time of all of them.
    And sums of one thread do not depend on how many there are.
    """
    with _libraries().limit(limits=1, user_api="blas"):
        yield


@functools.cache
def _libraries() -> ThreadpoolController:
    """What sets the threads of the libraries that are loaded at the first call."""
    return ThreadpoolController()
