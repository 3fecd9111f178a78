"""What samplers are made of, each against a definition or another way to the same result."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.study import StudyDirection
from scipy.stats import chisquare

from effvit import ConfigError, ModelConfig, model_costs
from search.front import FloatArray, crowding, hypervolume, layers, non_dominated
from search.samplers.archive import Archive
from search.samplers.bulk import Known, draw_pool, spread
from search.samplers.choice import AUTO, choose_sampler
from search.samplers.evolution import beyond
from search.samplers.features import CATEGORY, Features
from search.samplers.gaussian import GaussianProcess, fit_kernel
from search.samplers.improvement import expected_improvement, free_boxes
from search.samplers.setting import Objective
from search.samplers.variation import Variation
from spaces import get_space
from spaces.sepvit import SepViTSpace
from tests.search.fakes import small_space


def sphere(count: int, dimension: int, seed: int) -> FloatArray:
    """Points that do not dominate each other, with some ties."""
    points = np.random.default_rng(seed).random((count, dimension)) + 0.01
    points = np.round(points / np.linalg.norm(points, axis=1, keepdims=True), 2)
    front: FloatArray = points[non_dominated(points)]
    return front


# --- expected improvement -----------------------------------------------------------------------


@pytest.mark.parametrize("dimension", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 30])
def test_free_boxes_are_disjoint_and_hold_what_nothing_dominates(
    dimension: int, count: int
) -> None:
    points = np.random.default_rng(count).random((count, dimension)).round(1)
    limit = [0.95] * dimension
    boxes = free_boxes(points, limit)
    somewhere = np.random.default_rng(1).uniform(-0.2, 1.1, (500, dimension))
    inside = (boxes[:, None, :, 0] <= somewhere).all(-1)
    inside &= (somewhere < boxes[:, None, :, 1]).all(-1)
    dominated = (points[:, None] <= somewhere).all(-1).any(0)
    expected = ~dominated & (somewhere < limit).all(-1)
    assert inside.sum(0).tolist() == expected.astype(int).tolist()


@pytest.mark.parametrize("dimension", [2, 3])
def test_three_dimensions_take_few_boxes(dimension: int) -> None:
    points = sphere(200, dimension, 0)
    boxes = free_boxes(points, [2.0] * dimension)
    assert len(boxes) <= (len(points) + 1 if dimension == 2 else 2 * len(points) + 1)


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_improvement_of_what_is_known_is_the_gain_of_hypervolume(dimension: int) -> None:
    points, limit = sphere(40, dimension, 1), [1.1] * dimension
    new = np.random.default_rng(2).random((20, dimension))
    before = hypervolume(points, limit)
    gains = [hypervolume([*points, point], limit) - before for point in new]
    found = expected_improvement(new, np.zeros_like(new), free_boxes(points, limit))
    assert found == pytest.approx(gains, abs=1e-12)


def test_expected_improvement_is_the_mean_over_guesses() -> None:
    points, limit = sphere(10, 3, 3), [1.2] * 3
    mean, deviation = np.array([[0.6, 0.5, 0.7]]), np.array([[0.1, 0.0, 0.2]])
    draws = mean + deviation * np.random.default_rng(4).standard_normal((20_000, 3))
    boxes = free_boxes(points, limit)
    gains = expected_improvement(draws, np.zeros_like(draws), boxes)
    found = expected_improvement(mean, deviation, boxes)[0]
    assert found == pytest.approx(gains.mean(), abs=4 * gains.std() / len(draws) ** 0.5)


# --- fronts -------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), max_size=20))
def test_layers_are_the_fronts_of_what_is_left(points: list[tuple[int, int, int]]) -> None:
    values = np.array(points, dtype=np.float64).reshape(-1, 3)
    ranks = layers(values)
    for rank in range(int(ranks.max(initial=-1)) + 1):
        rest = ranks >= rank
        assert non_dominated(values[rest]).tolist() == (ranks[rest] == rank).tolist()


def test_crowding_is_the_distance_between_both_neighbours() -> None:
    found = crowding([(0, 10), (1, 6), (4, 4), (10, 0)])
    assert found.tolist() == [np.inf, (4 - 0) / 10 + (10 - 4) / 10, 9 / 10 + 6 / 10, np.inf]


def test_an_archive_knows_its_front_and_its_order() -> None:
    rng = np.random.default_rng(0)
    losses, orders = rng.random((60, 3)).round(1), rng.permutation(60)
    space = small_space(width_1=(32, 64), depth_3=(2, 4, 6), mlp_ratio=(2, 3, 4))
    configs = [space.unrank(int(order) % space.size()) for order in orders]
    archive = Archive(features=1, objectives=3)
    for part in np.split(np.arange(60), (5, 6, 30)):
        archive.add(
            [configs[index] for index in part],
            orders[part].tolist(),
            orders[part, None].astype(np.float64),
            losses[part],
        )
    sort = np.argsort(orders)
    assert archive.rows[:, 0].tolist() == list(range(60))
    assert archive.configs == [configs[index] for index in sort]
    assert archive.losses.tolist() == losses[sort].tolist()
    assert archive.front.tolist() == np.flatnonzero(non_dominated(losses[sort])).tolist()


@pytest.mark.parametrize("least", [1, 10, 20, 100])
def test_parents_are_whole_layers_until_there_are_enough(least: int) -> None:
    losses = np.random.default_rng(1).random((30, 2))
    archive = Archive(features=0, objectives=2)
    space = small_space()
    archive.add([space.unrank(0)] * 30, list(range(30)), np.empty((30, 0)), losses)
    pool, rank, distance = archive.parents(least)
    ranks = layers(losses)
    assert rank.tolist() == ranks[pool].tolist()
    assert pool.tolist() == np.flatnonzero(ranks <= rank.max()).tolist()
    assert len(pool) >= min(least, 30)
    assert np.sum(rank < rank.max()) < least
    assert distance[rank == 0].tolist() == crowding(losses[ranks == 0]).tolist()


def test_beyond_the_front_is_the_least_lead_over_its_members() -> None:
    front = np.array([(0.0, 10.0), (5.0, 0.0)])  # ranges 5 and 10
    points = np.array([(0.0, 10.0), (4.0, 5.0), (5.0, 10.0), (-1.0, -1.0)])
    # (4, 5): leads the first by (10 - 5) / 10, the second by (5 - 4) / 5.
    expected = [0, min(5 / 10, 1 / 5), max(0 - 5 / 5, 0), min(11 / 10, 6 / 5)]
    assert beyond(points, front) == pytest.approx(expected)


# --- candidates ---------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(0, 100))
def test_spread_chooses_each_once_and_both_ends_first(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.exp(rng.normal(size=40))
    chosen = spread(values, count, rng)
    assert len({*chosen.tolist()}) == count
    width = np.ptp(values) / count
    assert values[chosen[0]] <= values.min() + width
    if count > 1:
        assert values[chosen[1]] >= values.max() - width


def test_spread_covers_a_range_however_the_values_lie_in_it() -> None:
    values = np.random.default_rng(0).beta(8, 2, size=5000)  # most of them are high
    chosen = values[spread(values, 16, np.random.default_rng(1))]
    counts, edges = np.histogram(values, 16)
    assert counts.min() > 0
    assert np.histogram(chosen, edges)[0].tolist() == [1] * 16
    assert np.count_nonzero(np.histogram(values[:16], edges)[0]) < 12  # as many random ones do not


def test_a_pool_holds_distinct_networks_with_their_costs() -> None:
    space = small_space(width_1=(32, 64), depth_3=(2, 4, 6), mlp_ratio=(2, 3, 4))
    pool = draw_pool(space, np.random.default_rng(0), 10)
    assert len(pool) == len({*pool.configs}) == 10
    assert pool.costs.macs.tolist() == model_costs(pool.configs).macs.tolist()
    assert pool.costs.macs.tolist() == Known(pool.configs).costs.macs.tolist()
    whole = draw_pool(space, np.random.default_rng(0), 1000)
    assert {*whole.configs} == {space.unrank(number) for number in range(space.size())}


def test_a_pool_is_uniform_and_never_short_where_draws_repeat() -> None:
    """Of 4,320 networks 1,000 are drawn: about 107 draws meet one that was drawn before."""
    space = get_space("pit")
    counts = np.zeros(space.size(), np.int64)
    for seed in range(40):
        numbers = draw_pool(space, np.random.default_rng(seed), 1000).numbers
        assert len({*numbers.tolist()}) == 1000
        counts[numbers] += 1
    tenths = counts.reshape(10, -1).sum(axis=1)
    assert chisquare(tenths).pvalue > 1e-3


def test_drawing_and_costing_a_pool_makes_no_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    space = get_space("sepvit")
    made: list[int] = []
    unrank = space.unrank

    def noted(number: int) -> ModelConfig:
        made.append(number)
        return unrank(number)

    monkeypatch.setattr(space, "unrank", noted)
    pool = draw_pool(space, np.random.default_rng(0), 3000)
    chosen = spread(np.log(pool.costs.macs), 8, np.random.default_rng(0))
    assert made == []
    configs = [pool.config(int(place)) for place in chosen]
    assert made == pool.numbers[chosen].tolist()
    assert pool.costs.macs[chosen].tolist() == model_costs(configs).macs.tolist()


def test_features_show_axes_by_their_order_or_category_and_costs() -> None:
    space = small_space(
        depth_3=(2, 6, 8), mlp_ratio=(2, 4), window_representation=("learned", "zero", "average")
    )
    pool = draw_pool(space, np.random.default_rng(0), space.size())
    features = Features(space, pool.costs)
    every = [next(space.encodings(config)) for config in pool.configs]
    rows = features.rows(every, pool.costs)
    assert rows.shape == (space.size(), features.width) == (18, 1 + 3 + 1 + 4)
    for choices, row in zip(every, rows, strict=True):
        kinds = [CATEGORY * (choices["window_representation"] == k) for k in REPRESENTATIONS]
        depth = (2, 6, 8).index(int(choices["depth_3"])) / 2
        assert row[:-4].tolist() == [depth, *kinds, float(choices["mlp_ratio"] == 4)]
    assert np.abs(rows[:, -4:].mean(axis=0)).max() < 1e-12
    assert rows[:, -4:].std(axis=0) == pytest.approx([1 / 3] * 4)


REPRESENTATIONS = ("learned", "zero", "average")


# --- variation ----------------------------------------------------------------------------------


def varied_space() -> SepViTSpace:
    """Axes of which some do not matter for some networks, and rules that some choices break."""
    return small_space(
        width_3=(128, 192, 256),
        depth_3=(2, 4, 6),
        window_size=(7, 14),
        attention_4=("dssa", "gsa"),
        window_representation=("learned", "zero", "none"),
        head_width=(32, 64),
    )


def test_neighbours_of_a_variation_are_neighbours_in_the_space() -> None:
    space = varied_space()
    variation = Variation(space)
    for config in space.sample_many(np.random.default_rng(0), 20):
        near = variation.neighbours(config)
        assert set(near) <= set(space.neighbours(config))
        # All of them, where one choice only makes the network.
        if len(list(space.encodings(config))) == 1:
            assert set(near) == set(space.neighbours(config))


def test_crossings_take_each_axis_from_one_of_the_parents() -> None:
    space = varied_space()
    variation = Variation(space)
    rng = np.random.default_rng(0)
    found = 0
    for one, other in zip(*[iter(space.sample_many(rng, 40))] * 2, strict=True):
        parents = variation.choices(one), variation.choices(other)
        for child, choices in variation.crossings(one, other, 8, rng).items():
            assert child not in (one, other)
            assert all(choices[name] in (parents[0][name], parents[1][name]) for name in choices)
            found += 1
    assert found > 20
    assert variation.crossings(one, one, 8, rng) == {}


def test_choices_of_a_variation_make_its_networks() -> None:
    space = varied_space()
    variation = Variation(space)
    config = space.unrank(space.size() // 2)
    for child, choices in variation.neighbours(config).items():
        params = {axis.parameter: axis.write(choices[axis.name]) for axis in space.axes}
        assert space.decode(params) == child


# --- guesses ------------------------------------------------------------------------------------


def test_a_gaussian_process_guesses_what_it_has_not_seen_and_knows_how_well() -> None:
    rng = np.random.default_rng(0)
    rows = rng.random((140, 12))
    values = 5 + np.square(rows[:, 0] - 0.3) + 0.5 * rows[:, 1] * rows[:, 2]  # 3 of 12 matter
    seen, unseen = slice(0, 60), slice(60, None)
    measured = values[seen] + rng.normal(scale=0.2 * values.std(), size=60)
    kernel = fit_kernel(rows[seen], (measured - measured.mean()) / measured.std())
    mean, deviation = GaussianProcess(kernel, rows[seen], measured)(rows[unseen])
    error = mean - values[unseen]
    assert np.sqrt(np.square(error).mean()) < 0.4 * values.std()
    assert 0.5 < np.sqrt(np.square(error / deviation).mean()) < 2
    assert np.abs(mean - 5).max() < 1  # on the scale of the values


def test_a_constant_is_guessed_without_doubt_about_its_scale() -> None:
    rows = np.random.default_rng(0).random((10, 3))
    kernel = fit_kernel(rows, np.zeros(10))
    mean, _ = GaussianProcess(kernel, rows, np.full(10, 7.0))(rows)
    assert mean == pytest.approx([7.0] * 10)


@pytest.mark.parametrize("direction", [StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE])
def test_losses_are_lower_where_values_are_better(direction: StudyDirection) -> None:
    values = np.array([1.0, 2.0, 8.0])
    sign = 1 if direction is StudyDirection.MINIMIZE else -1
    assert Objective("x").losses(values, direction).tolist() == (sign * values).tolist()
    logs = Objective("x", log=True).losses(values, direction)
    assert np.diff(logs) == pytest.approx([sign * np.log(2), sign * np.log(4)])


# --- the choice ---------------------------------------------------------------------------------


def test_the_choice_weighs_a_proposal_against_a_trial() -> None:
    assert choose_sampler(AUTO, trials=60, steps=120, saved=None).name == "surrogate"
    cheap = choose_sampler(AUTO, trials=5000, steps=1, saved=None)
    assert cheap.name == "evolution"
    assert "5000 trials of about 0.05 s, a proposal of surrogate of about 0.2 s" in cheap.reason
    assert "trials of about 18 s" in choose_sampler(AUTO, 60, 360, saved=None).reason
    assert "more than 10%" in cheap.reason


def test_a_resumed_run_keeps_its_sampler_and_what_is_asked_for_is_taken() -> None:
    assert choose_sampler(AUTO, 5000, 1, saved={"sampler": "tpe"}).name == "tpe"
    assert choose_sampler("nsga2", 5000, 1, saved={"sampler": "tpe"}).name == "nsga2"
    with pytest.raises(ConfigError, match=r"unknown sampler 'evolutoin'; did you mean 'evolution'"):
        choose_sampler("evolutoin", 60, 120, None)
