"""Axes, and the draws that every space shares."""

from collections import Counter

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from scipy.stats import chisquare

from effvit import ConfigError
from spaces import Axis, InvalidVariant
from spaces.benchmark import report
from spaces.sepvit import SepViTSpace
from spaces.space import _uniform_indices

EVEN = Axis("width", (32, 64, 96), "channels")
UNEVEN = Axis("window", (4, 7, 8, 14), "pixels")
NAMES = Axis("kind", ("a", "b", "c"), "kind of thing")


def test_evenly_spaced_integers_are_themselves() -> None:
    assert EVEN.parameter == "width"
    assert EVEN.distribution == IntDistribution(32, 96, step=32)
    assert EVEN.read(64) == EVEN.write(64) == 64


def test_uneven_integers_are_positions_and_say_so() -> None:
    assert UNEVEN.parameter == "window_index"
    assert UNEVEN.distribution == IntDistribution(0, 3)
    assert UNEVEN.read(3) == 14
    assert UNEVEN.write(14) == 3


def test_names_are_categories() -> None:
    assert NAMES.parameter == "kind"
    assert NAMES.distribution == CategoricalDistribution(("a", "b", "c"))
    assert NAMES.suggest(optuna.trial.FixedTrial({"kind": "b"})) == "b"


def test_a_single_value_is_a_distribution_too() -> None:
    axis = UNEVEN.restricted((7,))
    assert axis.parameter == "window"
    assert axis.distribution == IntDistribution(7, 7)
    assert axis.beside(7) == ()


def test_one_change_is_a_step_or_another_name() -> None:
    assert UNEVEN.beside(4) == (7,)
    assert UNEVEN.beside(8) == (7, 14)
    assert UNEVEN.beside(14) == (8,)
    assert NAMES.beside("b") == ("a", "c")
    assert UNEVEN.distance(4, 14) == 3
    assert NAMES.distance("a", "c") == 1


def test_values_that_are_not_there_are_refused_with_the_nearest() -> None:
    with pytest.raises(InvalidVariant, match=r"width must be one of .*nearest valid: 96"):
        EVEN.read(100)
    with pytest.raises(InvalidVariant, match=r"window_index must be one of .*nearest valid: 3"):
        UNEVEN.read(14)
    with pytest.raises(InvalidVariant, match=r"kind must be one of a, b, c, got 'd'"):
        NAMES.write("d")


@pytest.mark.parametrize("values", [(), (2, 1), (1, 1), ("a", 1)])
def test_axes_refuse_values_without_order_or_kind(values: tuple[int | str, ...]) -> None:
    with pytest.raises(ConfigError, match="axis x needs"):
        Axis("x", values, "")


def test_restricting_keeps_the_kind() -> None:
    assert EVEN.restricted((48, 80)).values == (48, 80)
    with pytest.raises(ConfigError, match="needs one or more integers"):
        EVEN.restricted(("a",))
    with pytest.raises(ConfigError, match="needs one or more names"):
        NAMES.restricted(())
    with pytest.raises(ConfigError, match="unknown kind 'bb'; did you mean 'b'"):
        NAMES.restricted(("a", "bb"))


@pytest.mark.parametrize("size", [6, 3 * 2**62, 3 * 2**70])
def test_numbers_are_uniform_however_many_there_are(size: int) -> None:
    """Sixths of the range are hit equally often, also beyond 64 bits."""
    rng = np.random.default_rng(0)
    sixths = Counter(int(number) * 6 // size for number in _uniform_indices(rng, size, 6000))
    assert set(sixths) == set(range(6))
    assert chisquare([sixths[sixth] for sixth in range(6)]).pvalue > 1e-3


def test_the_benchmark_reports_what_the_space_says() -> None:
    space = SepViTSpace(224)
    lines = report(space, samples=10, seed=0)
    assert lines[0] == "space sepvit at 224 x 224 pixels"
    assert f"{space.size():,} (counted in" in lines[1]
    assert "(10 drawn in" in lines[2]
