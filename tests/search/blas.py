"""What the libraries of linear algebra are set to."""

from __future__ import annotations

from threadpoolctl import threadpool_info


def blas_threads() -> set[int]:
    """Threads of each that is loaded."""
    return {found["num_threads"] for found in threadpool_info() if found["user_api"] == "blas"}
