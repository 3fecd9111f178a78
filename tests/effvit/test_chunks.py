"""Long columns are costed piece by piece; pieces change nothing."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from effvit import cost
from effvit.designs.sepvit import VARIANTS, SepViTColumns, cost_arrays


@pytest.mark.parametrize("count", [1, 4, 5, 9])
def test_pieces_equal_the_whole(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    four = SepViTColumns.from_configs(list(VARIANTS.values()))
    rows = np.arange(count) % len(four)
    fields = vars(four).items()
    arrays: dict[str, Any] = {n: v[rows] for n, v in fields if isinstance(v, np.ndarray)}
    columns = dataclasses.replace(four, **arrays)
    whole = cost_arrays(columns)
    monkeypatch.setattr(cost, "CHUNK", 4)
    pieces = cost_arrays(columns)
    for name, values in vars(whole).items():
        assert len(values) == count
        np.testing.assert_array_equal(vars(pieces)[name], values)
