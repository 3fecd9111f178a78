"""Single changes of a variant: paired differences, and the committed results."""

from __future__ import annotations

import io

import pandas as pd
import pytest

from experiments import proxy_contrasts
from experiments.catalogue import DATA


def test_paired_differences_cancel_what_seeds_share() -> None:
    rows = [
        {"seed": seed, "label": label, "accuracy": 0.5 + seed / 10 + gain, "relation": 0.9,
         "recognition": 0.5 + 0.1 * (seed % 2) * bool(gain)}
        for seed in range(4)
        for label, gain in [("sepvit_lite", 0.0)]
        + [(label, 0.02) for label in proxy_contrasts.CHANGES]
    ]  # fmt: skip
    summary = proxy_contrasts.summarise(pd.DataFrame(rows)).set_index(["change", "score"])
    row = summary.loc[("no GSA", "accuracy")]
    assert row["difference"] == pytest.approx(0.02)
    assert row["resolved"]
    # 0, .1, 0, .1: mean .05, deviation .0577, Student's t for 3 degrees of freedom 3.182.
    unsure = summary.loc[("no GSA", "recognition")]
    assert unsure["high"] - unsure["low"] == pytest.approx(2 * 3.1824 * 0.057735 / 2, rel=1e-3)
    assert not unsure["resolved"]


def test_the_committed_summary_is_what_the_committed_rows_give() -> None:
    rows = pd.read_csv(DATA / proxy_contrasts.RAW)
    summary = proxy_contrasts.summarise(rows).to_csv(index=False, float_format="%.4f")
    committed = pd.read_csv(DATA / proxy_contrasts.SUMMARY)
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(summary)), committed, atol=2e-4)
