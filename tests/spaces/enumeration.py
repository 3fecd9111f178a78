"""Plain enumeration of small spaces, sharing no code with them, and what must agree with it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

import effvit
from spaces import Space
from spaces.axes import Axis, Value

Values = Mapping[str, tuple[Value, ...]]
Choices = dict[str, Any]


def enumerate_networks(
    values: Values, is_valid: Callable[[Choices], bool], build: Callable[[Choices], Any]
) -> dict[str, list[Choices]]:
    """Every network's valid choices, by its variant_id."""
    found: dict[str, list[Choices]] = {}
    for combination in itertools.product(*values.values()):
        choices = dict(zip(values, combination, strict=True))
        if is_valid(choices):
            found.setdefault(build(choices).variant_id, []).append(choices)
    return found


@st.composite
def reduced(
    draw: st.DrawFn, single: Values, options: Values, often: Sequence[str], others: int
) -> dict[str, tuple[Value, ...]]:
    """Values for all axes: one each, but two or three for some.

    Args:
        draw: Given by hypothesis.
        single: One value for each axis.
        options: What axes may have instead.
        often: Axes of which three have several values.
        others: How many of all axes may have several values besides.
    """
    values = dict(single)
    chosen = draw(st.permutations(often))[:3]
    more = draw(st.lists(st.sampled_from(list(single)), max_size=others, unique=True))
    for name in dict.fromkeys((*chosen, *more)):
        known = options[name]
        some = draw(st.sets(st.sampled_from(known), min_size=min(2, len(known)), max_size=3))
        values[name] = tuple(value for value in known if value in some)
    return values


def assert_counted_once(space: Space, networks: Mapping[str, object]) -> None:
    """The space's numbers name exactly these networks, each once and canonical."""
    assert space.size() == len(networks)
    configs = [space.unrank(number) for number in range(space.size())]
    assert {config.variant_id for config in configs} == set(networks)
    assert all(config == config.canonical() for config in configs)


def assert_walked(
    space: Space,
    networks: Mapping[str, Sequence[Choices]],
    build: Callable[[Choices], effvit.ModelConfig],
    count: int = 20,
) -> None:
    """Encodings are all choices of a network, and neighbours all networks one change away."""
    names = [axis.name for axis in space.axes]
    axes = {axis.name: Axis(axis.name, axis.values, "") for axis in space.axes}
    owner = {
        tuple(choices[name] for name in names): identity
        for identity, encodings in networks.items()
        for choices in encodings
    }
    for identity, encodings in list(networks.items())[:count]:
        config = build(encodings[0])
        expected = [tuple(choices[name] for name in names) for choices in encodings]
        found = [tuple(choices.values()) for choices in space.encodings(config)]
        assert sorted(map(str, found)) == sorted(map(str, expected))
        reached = {
            owner.get(tuple({**choices, name: value}[n] for n in names))
            for choices in encodings
            for name, axis in axes.items()
            for value in axis.beside(choices[name])
        } - {identity, None}
        assert {other.variant_id for other in space.neighbours(config)} == reached
