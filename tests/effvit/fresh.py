"""Statements run in a fresh interpreter: what an import loads cannot be undone in this one."""

from __future__ import annotations

import subprocess
import sys


def run_fresh(code: str) -> str:
    """Run code in a new process and return what it prints; an error shows its traceback."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
