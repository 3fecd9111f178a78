"""Finite sets that know their exact size and number their elements, built from small ones.

A space's networks are one expression of these: listed values, products of independent choices,
disjoint unions, and chains whose neighbours depend on each other. Size and numbering follow from
the parts, so nothing is enumerated, and a uniform number is a uniform element.

The numbering is part of what a seed means: samples stay the same as long as an expression does.

Elements come one by one, or many at once as :class:`Column` s. For the latter, sets at the same
place of an expression (the parts of a union, then their first parts, ...) are numbered together,
whichever of them an element is in: it takes a few array operations for each place, however many
sets there are and however many elements.
"""

from __future__ import annotations

import abc
import bisect
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

IntArray: TypeAlias = NDArray[np.int64]
Numbers: TypeAlias = NDArray[Any]
"""Numbers of elements: ``int64``, or Python's integers (``object``) where these may be larger."""

Pick: TypeAlias = Callable[[IntArray, Numbers], Any]
"""Makes columns of elements (n,), from which of several sets each is in, and its number there."""

_Split: TypeAlias = Callable[[IntArray, Numbers], tuple[IntArray, Numbers]]


@dataclasses.dataclass(frozen=True)
class Column(Generic[T]):
    """One part of many elements: what it may be, and which of that it is in each.

    Attributes:
        values: What the part may be; equal values may stand at several places.
        places: (n,), where the value of each element stands.
    """

    values: Sequence[T]
    places: IntArray

    def integers(self, read: Callable[[T], Any] = lambda value: value) -> IntArray:
        """Read integers off each value, off the value itself if it is some.

        Args:
            read: Makes an integer, or nested sequences of some shape, of a value.

        Returns:
            (n, ...), one entry an element, laid out with the elements of a column side by side.
        """
        table = np.array([read(value) for value in self.values], np.int64)
        found: IntArray = np.ascontiguousarray(table.T)[..., self.places].T
        return found


def side_by_side(arrays: Sequence[IntArray]) -> IntArray:
    """Arrays (n, ...) of several parts as one (n, parts, ...), laid out as a column's integers."""
    stacked: IntArray = np.stack([array.T for array in arrays], axis=-2).T
    return stacked


class Counted(abc.ABC, Generic[T]):
    """A finite set with a number for each element.

    Attributes:
        size: Exact number of elements; there is no limit to it.
    """

    size: int

    @abc.abstractmethod
    def element(self, number: int) -> T:
        """Return an element by its number, 0 to ``size - 1``; others are not checked here."""

    @staticmethod
    @abc.abstractmethod
    def together(sets: Sequence[Any]) -> Pick:
        """Number the elements of several sets of this kind at once.

        Raises:
            ValueError: Their elements have not the same form.
        """

    def columns(self, numbers: Numbers) -> Any:  # noqa: ANN401 - a column, or tuples of columns
        """Return many elements by their numbers.

        Args:
            numbers: (n,), 0 to ``size - 1`` each; others are not checked here.

        Returns:
            What an element is made of, with a :class:`Column` in the place of each listed value.

        Raises:
            ValueError: The parts of a union have not the same form.
        """
        return self._alone(np.zeros(len(numbers), np.int64), numbers)

    @functools.cached_property
    def _alone(self) -> Pick:
        return self.together([self])


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

    @staticmethod
    def together(sets: Sequence[Listed[T]]) -> Pick:
        """See the base class: the lists one after the other."""
        values = [value for listed in sets for value in listed._elements]
        starts = _starts(listed.size for listed in sets)

        def pick(which: IntArray, numbers: Numbers) -> Column[T]:
            return Column(values, (starts[which] + numbers).astype(np.int64, copy=False))

        return pick


class Product(Counted[tuple[Any, ...]]):
    """All tuples with one element of each part, the first part's varying fastest.

    Args:
        parts: The sets, of any kinds.
    """

    def __init__(self, *parts: Counted[Any]) -> None:
        self._parts = parts
        self._digits = [(part.size, part.element) for part in parts]
        self.size = math.prod(part.size for part in parts)

    def element(self, number: int) -> tuple[Any, ...]:
        """Return a tuple by its number."""
        found = []
        for size, element in self._digits:
            number, digit = divmod(number, size)
            found.append(element(digit))
        return tuple(found)

    @staticmethod
    def together(sets: Sequence[Product]) -> Pick:
        """See the base class: digits by each product's own sizes."""
        if len({len(product._parts) for product in sets}) > 1:
            raise ValueError("products numbered together must have as many parts")
        places = [
            (_integers([part.size for part in parts]), _together(parts))
            for parts in zip(*(product._parts for product in sets), strict=True)
        ]

        def pick(which: IntArray, numbers: Numbers) -> tuple[Any, ...]:
            found = []
            for sizes, pick_part in places:
                size = sizes[which]
                rest = numbers // size
                found.append(pick_part(which, (numbers - rest * size).astype(sizes.dtype)))
                numbers = rest
            return tuple(found)

        return pick


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

    @staticmethod
    def together(sets: Sequence[Union[T]]) -> Pick:
        """See the base class: all parts of all unions are numbered together."""
        split = _split([union._ends for union in sets])
        pick_part = _together([part for union in sets for part in union._parts])
        return lambda which, numbers: pick_part(*split(which, numbers))


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

    @staticmethod
    def together(sets: Sequence[Chain[T]]) -> Pick:
        """See the base class: all places in the chains that follow as many entries at once."""
        steps = []
        forks: list[_Fork[T]] = [chain._start for chain in sets]
        index = np.arange(len(forks))
        while forks:
            options = [option for fork in forks for option in fork.options]
            later = [fork for _, fork in options if fork is not None]
            if 0 < len(later) < len(options):
                raise ValueError("chains numbered together must have as many layers")
            steps.append((index, _split([f.ends for f in forks]), [entry for entry, _ in options]))
            forks, index = _distinct(later)

        def pick(which: IntArray, numbers: Numbers) -> tuple[Column[T], ...]:
            found = []
            for index, split, entries in steps:
                which, numbers = split(index[which], numbers)
                found.append(Column(entries, which))
            return tuple(found)

        return pick


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


# --- many sets at once --------------------------------------------------------------------------


def _together(sets: Sequence[Counted[Any]]) -> Pick:
    """Number sets at the same place of an expression together; the same one may occur often."""
    distinct, index = _distinct(sets)
    kinds = {type(counted) for counted in distinct}
    if len(kinds) > 1:
        names = sorted(kind.__name__ for kind in kinds)
        raise ValueError(f"sets numbered together must be of one kind, got {', '.join(names)}")
    if not kinds:
        return lambda *_: ()  # parts of an empty union: there are no elements
    pick = kinds.pop().together(distinct)
    return lambda which, numbers: pick(index[which], numbers)


def _distinct(things: Sequence[T]) -> tuple[list[T], IntArray]:
    """Each object once, and for each entry which of these it is."""
    places: dict[int, int] = {}
    index = [places.setdefault(id(thing), len(places)) for thing in things]
    distinct = dict(zip(index, things, strict=True))
    return list(distinct.values()), np.array(index, np.int64)


def _split(divisions: Sequence[Sequence[int]]) -> _Split:
    """Find the parts that numbers fall in, in sets divided into parts.

    Args:
        divisions: For each set, how many elements its parts up to and with each have.

    Returns:
        Takes of which set, and of which number there, each element is; returns the place of its
        part among those of all sets, and its number in the part.
    """
    sizes = [
        end - before for ends in divisions for before, end in zip((0, *ends), ends, strict=False)
    ]
    # Sets one after the other: a search among all ends finds the part within the set.
    starts = _starts(sizes)
    ends = _integers(list(itertools.accumulate(sizes)))
    firsts = _starts(ends[-1] if ends else 0 for ends in divisions)

    def split(which: IntArray, numbers: Numbers) -> tuple[IntArray, Numbers]:
        numbers = numbers + firsts[which]
        places = np.searchsorted(ends, numbers, side="right")
        return places, numbers - starts[places]

    return split


def _starts(sizes: Iterable[int]) -> Numbers:
    """How many elements there are before each set, one after the other."""
    return _integers([0, *itertools.accumulate(sizes)])


def _integers(values: Sequence[int]) -> Numbers:
    """Integers as an array, Python's own where they are too large for ``int64``."""
    return np.array(values, np.int64 if max(values, default=0) < 2**63 else object)
