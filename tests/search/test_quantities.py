"""Budgets as people type them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effvit import ConfigError
from search.quantities import Budgets, parse_count, parse_milliseconds


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1", 1),
        ("250000", 250_000),
        ("1k", 10**3),
        ("1.5M", 15 * 10**5),
        ("1g", 10**9),
        ("2T", 2 * 10**12),
        (" 3.25 G ", 325 * 10**7),
        ("1e9", 10**9),
        ("1.5e3k", 15 * 10**5),
        (".5G", 5 * 10**8),
    ],
)
def test_counts(text: str, count: int) -> None:
    assert parse_count(text, "--max-macs") == count


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("20ms", 20.0), ("20", None), ("0.02s", 20.0), ("1500 us", 1.5), ("20MS", 20.0)],
)
def test_times_need_a_unit(text: str, milliseconds: float | None) -> None:
    if milliseconds is None:
        with pytest.raises(ConfigError, match=r"unit of us, ms, s, got '20'"):
            parse_milliseconds(text, "--max-latency")
    else:
        assert parse_milliseconds(text, "--max-latency") == pytest.approx(milliseconds, rel=1e-15)


@pytest.mark.parametrize(
    "text",
    ["", " ", "G", "1.5Q", "1..5G", "1,5G", "one", "nan", "nanG", "inf", "1G2", "0x10", "1 0"],
)
def test_what_is_no_number_with_a_known_unit(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--max-macs must be a number with a unit") as caught:
        parse_count(text, "--max-macs")
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["0", "0G", "-1", "-1.5G", "0.0", "1e999"])
def test_what_is_not_positive_or_not_finite(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--max-macs must be positive"):
        parse_count(text, "--max-macs")


def test_less_than_one_thing_is_no_count() -> None:
    with pytest.raises(ConfigError, match=r"must be at least 1, got '0\.4'"):
        parse_count("0.4", "--max-macs")


@given(
    st.integers(1, 2**53 // 10**6),  # beyond 2^53 a float does not hold every integer
    st.sampled_from([("", 1), ("k", 10**3), ("M", 10**6)]),
)
def test_whole_counts_are_exact(number: int, unit: tuple[str, int]) -> None:
    name, size = unit
    assert parse_count(f"{number}{name}", "x") == number * size


@given(st.text(max_size=12))
def test_any_text_is_a_positive_number_or_a_clear_error(text: str) -> None:
    try:
        assert parse_count(text, "--max-macs") >= 1
    except ConfigError as error:
        assert "--max-macs must be" in str(error)  # noqa: PT017 - either is right


def test_budgets_say_which_one_is_wrong() -> None:
    assert Budgets.parse("1G", None, "20ms") == Budgets(10**9, None, 20.0)
    for macs, params, latency, name in [
        ("x", None, None, "--max-macs"),
        (None, "x", None, "--max-params"),
        (None, None, "x", "--max-latency"),
    ]:
        with pytest.raises(ConfigError, match=name):
            Budgets.parse(macs, params, latency)
