"""Counted sets against the same sets written out."""

import itertools
import math
import operator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from spaces.counted import Chain, Counted, Listed, Mapped, Product, Union

LAYERS = st.lists(st.lists(st.integers(0, 6), max_size=4, unique=True), min_size=1, max_size=4)


def elements(counted: Counted[Any]) -> list[Any]:
    return [counted.element(number) for number in range(counted.size)]


@given(layers=LAYERS)
def test_a_product_is_all_tuples_the_first_part_fastest(layers: list[list[int]]) -> None:
    product = Product(*map(Listed, layers))
    assert elements(product) == [
        tuple(reversed(backwards)) for backwards in itertools.product(*reversed(layers))
    ]


@given(layers=LAYERS)
def test_a_union_is_its_parts_in_order_empty_ones_too(layers: list[list[int]]) -> None:
    assert elements(Union(map(Listed, layers))) == list(itertools.chain(*layers))


@given(layers=LAYERS)
def test_a_chain_is_the_sequences_whose_neighbours_agree(layers: list[list[int]]) -> None:
    for agree in (operator.le, operator.ne):
        assert elements(Chain(layers, agree)) == [
            sequence
            for sequence in itertools.product(*layers)
            if all(agree(a, b) for a, b in itertools.pairwise(sequence))
        ]


@given(layers=LAYERS)
def test_mapping_keeps_numbers(layers: list[list[int]]) -> None:
    assert elements(Mapped(str, Union(map(Listed, layers)))) == list(
        map(str, itertools.chain(*layers))
    )


def test_sizes_have_no_limit() -> None:
    """Non-decreasing sequences of 60 numbers out of 50: (50 + 60 - 1) choose 60, beyond 64 bits."""
    chain = Chain([range(50)] * 60, operator.le)
    assert chain.size == math.comb(50 + 60 - 1, 60) > 2**64
    assert chain.element(0) == (0,) * 60
    assert chain.element(chain.size - 1) == (49,) * 60
    assert Product(*[Listed(range(10))] * 30).size == 10**30
    assert Product().size == 1
    assert Union([]).size == 0
