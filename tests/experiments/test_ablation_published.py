"""Comparison with printed figures, digit by digit."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effvit.config import ConfigError
from experiments.ablation import published
from experiments.ablation.published import BILLION, COLUMNS, MILLION, Printed, Published, Verdict


@pytest.mark.parametrize(
    ("text", "count", "difference", "verdict"),
    [
        ("31.2", 31_182_856, "0.0", Verdict.REPRODUCED),
        ("82.3", 82_377_064, "0.1", Verdict.LAST_DIGIT),
        ("31.2", 31_249_999, "0.0", Verdict.REPRODUCED),
        ("31.2", 31_250_000, "0.1", Verdict.LAST_DIGIT),  # a half is rounded up
        ("31.2", 31_149_999, "-0.1", Verdict.LAST_DIGIT),
        ("29.3", 30_112_744, "0.8", Verdict.NOT_REPRODUCED),
        ("28.0", 28_049_999, "0.0", Verdict.REPRODUCED),  # the 0 is a printed digit
        ("28.0", 28_279_432, "0.3", Verdict.NOT_REPRODUCED),
        ("28", 28_279_432, "0", Verdict.REPRODUCED),
    ],
)
def test_counts_are_rounded_as_printed(
    text: str, count: int, difference: str, verdict: Verdict
) -> None:
    printed = Printed(text, MILLION)
    assert str(printed.difference(count)) == difference
    assert printed.verdict(count) is verdict


@given(st.integers(0, 10**12), st.integers(0, 4))
def test_a_count_printed_with_any_digits_is_reproduced(count: int, digits: int) -> None:
    text = f"{Printed(f'{0:.{digits}f}', BILLION).rounded(count)}"
    assert Printed(text, BILLION).verdict(count) is Verdict.REPRODUCED
    one = Printed(text, BILLION).digit
    assert Printed(str(Decimal(text) + one), BILLION).verdict(count) is Verdict.LAST_DIGIT
    assert Printed(str(Decimal(text) + 2 * one), BILLION).verdict(count) is Verdict.NOT_REPRODUCED


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(published, "DATA", tmp_path)
    return tmp_path / "table.csv"


def test_tables_keep_figures_as_printed(data: Path) -> None:
    data.write_text(f"{','.join(COLUMNS)}\nmine,Theirs,28.0,4.4,704,81.2,why\nother,,,,,,\n")
    rows = Published("table.csv", "a paper").rows()
    assert rows["mine"].params == Printed("28.0", MILLION)
    assert rows["mine"].macs == Printed("4.4", BILLION)
    assert rows["mine"].throughput == Printed("704")
    assert (rows["mine"].printed_as, rows["mine"].note) == ("Theirs", "why")
    assert rows["other"].params is rows["other"].score is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("row,score\nmine,1\n", "must have the columns row, printed_as"),
        (f"{','.join(COLUMNS)}\nmine,,31.2M,,,,\n", "row 'mine': params_m is '31.2M'"),
    ],
)
def test_broken_tables_are_refused(data: Path, text: str, message: str) -> None:
    data.write_text(text)
    with pytest.raises(ConfigError, match=message):
        Published("table.csv", "a paper").rows()
