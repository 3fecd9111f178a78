"""Random numbers that are a function of what they are for, not of what was drawn before.

Libraries that augment images draw from three global generators. :func:`seeded` sets all three for
one piece of work and gives them back as they were, so that an image, or a step of a training, draws
the same numbers whatever came before it: in another process, after a restart, or in another order.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch


def derived_seed(*key: int) -> int:
    """A seed of 63 bits from a key of numbers from 0, well mixed: similar keys share nothing."""
    low, high = np.random.SeedSequence(key).generate_state(2, np.uint32)
    return int(high >> 1) << 32 | int(low)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let Python's, numpy's and torch's global generators start from a seed, on the CPU as before.

    Generators of GPUs are seeded as well, and stay where the work left them.
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - what libraries use
    state = torch.get_rng_state()
    try:
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        torch.manual_seed(seed)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(state)
