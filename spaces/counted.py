"""Finite sets that know their exact size and number their elements, built from small ones.

A space's networks are one expression of these: listed values, products of independent choices,
disjoint unions, and chains whose neighbours depend on each other. Size and numbering follow from
the parts, so nothing is enumerated, and a uniform number is a uniform element.

The numbering is part of what a seed means: samples stay the same as long as an expression does.
"""

from __future__ import annotations

import abc
import bisect
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

T = TypeVar("T")
S = TypeVar("S")


class Counted(abc.ABC, Generic[T]):
    """A finite set with a number for each element.

    Attributes:
        size: Exact number of elements; there is no limit to it.
    """

    size: int

    @abc.abstractmethod
    def element(self, number: int) -> T:
        """Return an element by its number, 0 to ``size - 1``; others are not checked here."""


class Listed(Counted[T]):
    """Elements written out, numbered in their order.

    Args:
        elements: All elements, each once.
    """

    def __init__(self, elements: Iterable[T]) -> None:
        self._elements = list(elements)
        self.size = len(self._elements)

    def element(self, number: int) -> T:
        """Return an element by its number."""
        return self._elements[number]


class Product(Counted[tuple[Any, ...]]):
    """All tuples with one element of each part, the first part's varying fastest.

    Args:
        parts: The sets, of any kinds.
    """

    def __init__(self, *parts: Counted[Any]) -> None:
        self._parts = [(part.size, part.element) for part in parts]
        self.size = math.prod(part.size for part in parts)

    def element(self, number: int) -> tuple[Any, ...]:
        """Return a tuple by its number."""
        found = []
        for size, element in self._parts:
            number, digit = divmod(number, size)
            found.append(element(digit))
        return tuple(found)


class Union(Counted[T]):
    """The elements of disjoint parts, part after part.

    Args:
        parts: Sets without common elements.
    """

    def __init__(self, parts: Iterable[Counted[T]]) -> None:
        self._parts = list(parts)
        self._ends = list(itertools.accumulate(part.size for part in self._parts))
        self.size = self._ends[-1] if self._ends else 0

    def element(self, number: int) -> T:
        """Return an element by its number."""
        place, rest = _locate(self._ends, number)
        return self._parts[place].element(rest)


class Mapped(Counted[T]):
    """What a function makes of another set's elements.

    Args:
        function: Makes another result of each element.
        elements: The other set.
    """

    def __init__(self, function: Callable[[S], T], elements: Counted[S]) -> None:
        self._element: Callable[[int], T] = lambda number: function(elements.element(number))
        self.size = elements.size

    def element(self, number: int) -> T:
        """Return a result by its number."""
        return self._element(number)


class Chain(Counted[tuple[T, ...]]):
    """All sequences with one entry of each layer in which neighbours agree, in dictionary order.

    Counted from the last layer backwards: an entry starts as many sequences as all entries of the
    next layer that agree with it. That takes one step for each pair of neighbours.

    Args:
        layers: Entries of each layer, each once; at least one layer.
        agree: Whether an entry may be followed by one of the next layer.
    """

    def __init__(self, layers: Sequence[Sequence[T]], agree: Callable[[T, T], bool]) -> None:
        options: list[tuple[T, _Fork[T] | None]] = [(entry, None) for entry in layers[-1]]
        for layer in reversed(layers[:-1]):
            options = [
                (entry, _Fork([option for option in options if agree(entry, option[0])]))
                for entry in layer
            ]
        self._start = _Fork(options)
        self.size = self._start.size

    def element(self, number: int) -> tuple[T, ...]:
        """Return a sequence by its number."""
        found = []
        fork: _Fork[T] | None = self._start
        while fork is not None:
            place, number = _locate(fork.ends, number)
            entry, fork = fork.options[place]
            found.append(entry)
        return tuple(found)


class _Fork(Generic[T]):
    """A place in a chain.

    Attributes:
        options: Entries that may come next, each with the place after it (none after the last).
        ends: How many sequences the options up to and with each start.
        size: How many sequences start here.
    """

    options: list[tuple[T, _Fork[T] | None]]
    ends: list[int]
    size: int

    def __init__(self, options: list[tuple[T, _Fork[T] | None]]) -> None:
        self.options = options
        self.ends = list(
            itertools.accumulate(1 if later is None else later.size for _, later in options)
        )
        self.size = self.ends[-1] if self.ends else 0


def _locate(ends: list[int], number: int) -> tuple[int, int]:
    """Return the part that a number falls in, and its number there."""
    place = bisect.bisect_right(ends, number)
    return place, number - ends[place - 1] if place else number
