"""Counted sets against the same sets written out, and many elements at once against each."""

import itertools
import math
import operator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spaces.counted import Chain, Column, Counted, Listed, Product, Union, side_by_side

LAYERS = st.lists(st.lists(st.integers(0, 6), max_size=4, unique=True), min_size=1, max_size=4)


def elements(counted: Counted[Any]) -> list[Any]:
    """All elements, which are the same when they are made together."""
    found = [counted.element(number) for number in range(counted.size)]
    assert rows(counted.columns(np.arange(counted.size)), counted.size) == found
    backwards = np.arange(counted.size)[::-1]
    assert rows(counted.columns(backwards), counted.size) == found[::-1]
    return found


def rows(columns: object, count: int) -> list[Any]:
    """The elements that columns stand for."""
    if isinstance(columns, Column):
        return [columns.values[place] for place in columns.places]
    assert isinstance(columns, tuple)
    parts = [rows(part, count) for part in columns]
    return list(zip(*parts, strict=True)) if parts else [()] * count


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


@given(first=LAYERS, second=LAYERS, third=LAYERS)
def test_unions_of_products_of_unions_are_numbered_together(
    first: list[list[int]], second: list[list[int]], third: list[list[int]]
) -> None:
    """Parts of different sizes, empty ones, and one that is in several products."""
    shared = Union(Product(Listed(layer)) for layer in third)
    forms = [
        Product(Listed(short), Chain([*([short] * 2), long], operator.le), shared)
        for short, long in itertools.product(first, second)
    ]
    expected = [
        (digit, sequence, end)
        for short, long in itertools.product(first, second)
        for end in ((value,) for layer in third for value in layer)
        for sequence in itertools.product(short, short, long)
        if all(itertools.starmap(operator.le, itertools.pairwise(sequence)))
        for digit in short
    ]
    assert elements(Union(forms)) == expected


def test_integers_are_read_off_values() -> None:
    pairs = Listed([(1, 2), (3, 4), (5, 6)]).columns(np.array([2, 0]))
    assert pairs.integers().tolist() == [[5, 6], [1, 2]]
    assert pairs.integers(sum).tolist() == [11, 3]
    beside = side_by_side([pairs.integers(), pairs.integers(lambda pair: (pair[1], 0))])
    assert beside.tolist() == [[[5, 6], [6, 0]], [[1, 2], [2, 0]]]
    assert side_by_side([pairs.integers(sum), pairs.integers(max)]).tolist() == [[11, 6], [3, 2]]


@pytest.mark.parametrize(
    ("parts", "rule"),
    [
        ((Listed([1]), Product(Listed([1]))), "of one kind, got Listed, Product"),
        ((Product(Listed([1])), Product(Listed([1]), Listed([1]))), "must have as many parts"),
        ((Chain([[1]], operator.le), Chain([[1], [2]], operator.le)), "must have as many layers"),
    ],
)
def test_elements_of_different_forms_have_no_columns(
    parts: tuple[Counted[Any], ...], rule: str
) -> None:
    with pytest.raises(ValueError, match=rule):
        Union(parts).columns(np.arange(2))


def test_sizes_have_no_limit() -> None:
    """Non-decreasing sequences of 60 numbers out of 50: (50 + 60 - 1) choose 60, beyond 64 bits."""
    chain = Chain([range(50)] * 60, operator.le)
    assert chain.size == math.comb(50 + 60 - 1, 60) > 2**64
    assert chain.element(0) == (0,) * 60
    assert chain.element(chain.size - 1) == (49,) * 60
    digits = Product(*[Listed(range(10))] * 30)
    assert digits.size == 10**30
    numbers = np.array([0, 10**29, 12345678901234567890, 10**30 - 1], object)
    for counted in (digits, Union([digits, digits]), Product(chain, Listed("ab"))):
        assert rows(counted.columns(numbers), 4) == [counted.element(int(n)) for n in numbers]
    assert Product().size == 1
    assert Union([]).size == 0
