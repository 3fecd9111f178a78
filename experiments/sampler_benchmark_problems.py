"""Search problems whose front is known, because all of their networks can be gone through.

A problem is a slice of a space (fewer values on some axes) of some ten thousand networks, and two
or three losses of each, scaled so that 0 is the least and 1 the largest of the slice. Samplers are
told these losses. Which of them they may compute for themselves is said by the problem: the one
made of MACs, as in a search.

The *utility* stands for what has to be measured in a search. It is an analytic function of the
choices: rising and then falling effects of ordered axes, effects of categories, interactions of
pairs of axes, and a rough part that no model can learn. It is not a monotone function of MACs.
"""

from __future__ import annotations

import dataclasses
import functools
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from effvit import ModelConfig, model_costs
from effvit.config import unknown_name
from effvit.cost import CostArrays
from experiments.catalogue import DATA
from experiments.tabular_benchmark import TABLE, VALUES, read_table
from search.front import hypervolume, non_dominated
from search.samplers import Objective
from search.samplers.bulk import Pool
from search.samplers.setting import Mask
from spaces import SPACES, Space
from spaces.axes import Value

FloatArray = NDArray[np.float64]
Values = Mapping[str, tuple[Value, ...]]

RESOLUTION = 224
MARGIN = 0.1
"""Of the hypervolume's reference point beyond the front, as a share of its range."""


SEPVIT_VALUES: Values = {
    "width_1": (32, 64, 96),
    "width_2": (64, 128, 192),
    "width_3": (128, 256, 384),
    "width_4": (256, 512, 768),
    "depth_1": (1, 2),
    "depth_2": (1, 3),
    "depth_3": (2, 6, 10),
    "depth_4": (1, 2),
    "window_size": (7,),
    "group_count": (2,),
    "attention_1": ("dssa",),
    "attention_2": ("dssa",),
    "attention_3": ("dssa", "alternate", "gsa"),
    "attention_4": ("dssa",),
    "window_representation": ("learned", "none"),
    "mlp_ratio": (2, 3, 4),
    "head_width": (32,),
}
HYBRID_VALUES: Values = {
    "width_1": (32, 64),
    "width_2": (64, 128, 192),
    "width_3": (128, 256, 384),
    "width_4": (256, 512, 768),
    "depth_1": (1, 2),
    "depth_2": (1, 3),
    "depth_3": (2, 6, 10),
    "depth_4": (2,),
    "window_size": (7,),
    "group_count": (2,),
    "attention_1": ("convolution",),
    "attention_2": ("dssa", "relu_linear"),
    "attention_3": ("dssa+gsa", "twins", "linformer", "separable", "full"),
    "attention_4": ("full", "relu_linear"),
    "window_representation": ("learned",),
    "mlp_ratio": (2, 4),
    "head_width": (32,),
}
MOBILEVITV2_VALUES: Values = {
    "width_stem": (16, 32),
    "width_1": (32, 64, 96),
    "width_2": (64, 128, 192),
    "width_3": (128, 256, 384),
    "width_4": (192, 384, 576),
    "width_5": (256, 512, 768),
    "attention_depth_3": (1, 2, 4),
    "attention_depth_4": (1, 3, 5),
    "attention_depth_5": (1, 3, 5),
    "patch_size_3": (2,),
    "patch_size_4": (2,),
    "patch_size_5": (2,),
    "expand_ratio": (1, 2, 4),
    "ffn_ratio": (1, 2, 4),
}
EFFICIENTVIT_VALUES: Values = {
    "width_stem": (8, 16),
    "width_1": (16, 32),
    "width_2": (32, 64, 96),
    "width_3": (64, 128, 192, 256),
    "width_4": (128, 256, 384, 512),
    "depth_stem": (1,),
    "depth_1": (2,),
    "depth_2": (1, 3),
    "depth_3": (2, 4, 6, 8),
    "depth_4": (2, 4, 6, 8),
    "kind_1": ("mbconv",),
    "kind_2": ("mbconv",),
    "kind_3": ("attention",),
    "kind_4": ("attention",),
    "head_width": (16,),
    "scales": ("none", "5x5"),
    "expand_ratio": (2, 4, 6),
    "classifier": ("1024+1280",),
}


@dataclasses.dataclass(frozen=True)
class Slice:
    """All networks of a space, and what losses are made of.

    Attributes:
        space: The space.
        configs: (n,) networks by number.
        places: (n, axes), place of each axis' value in the choices, 0 for the first and 1 for the
            last.
        costs: (n,) closed-form costs.
    """

    space: Space
    configs: Sequence[ModelConfig]
    places: FloatArray
    costs: CostArrays


@dataclasses.dataclass(frozen=True)
class Problem:
    """A search problem.

    Attributes:
        name: Its name in :data:`PROBLEMS`.
        space: Where variants come from.
        objectives: What samplers know of the losses.
        losses: (n, m), 0 to 1, to be minimised; NaN where a network has no values.
        numbers: Row of each network.
    """

    space: Space
    objectives: tuple[Objective, ...]
    losses: FloatArray
    numbers: Mapping[ModelConfig, int]

    @functools.cached_property
    def front(self) -> FloatArray:
        """The losses that nothing dominates."""
        return self.losses[non_dominated(self.losses)]

    @functools.cached_property
    def reference(self) -> tuple[float, ...]:
        """The worst losses of the front, and a margin."""
        worst = self.front.max(axis=0) + MARGIN * np.ptp(self.front, axis=0)
        return tuple(worst.tolist())

    @functools.cached_property
    def best(self) -> float:
        """Hypervolume of the front."""
        return hypervolume(self.front, self.reference)

    @classmethod
    def of(
        cls, table: Slice, losses: Sequence[FloatArray], objectives: Sequence[Objective]
    ) -> Problem:
        """Make a problem of the losses (n,) of a slice."""
        numbers = {config: number for number, config in enumerate(table.configs)}
        return cls(table.space, tuple(objectives), np.column_stack(losses), numbers)

    def has_values(self, pool: Pool) -> Mask:
        """Say of each network whether it has values: what else would be affordable."""
        return np.array([config not in self._without for config in pool.configs], dtype=bool)

    @functools.cached_property
    def _without(self) -> set[ModelConfig]:
        return {c for c, number in self.numbers.items() if np.isnan(self.losses[number]).any()}

    def reached(self, numbers: Sequence[int]) -> float:
        """Hypervolume of some networks, as a share of the front's."""
        return hypervolume(self.losses[list(numbers)], self.reference) / self.best


def tabulate(name: str, values: Values) -> Slice:
    """Go through a slice of a space, some ten thousand networks a few seconds."""
    space = SPACES[name](RESOLUTION, values)
    configs = [space.unrank(number) for number in range(space.size())]
    places = np.array([_places(space, config) for config in configs])
    return Slice(space, configs, places, model_costs(configs))


def _places(space: Space, config: ModelConfig) -> list[float]:
    choices = next(space.encodings(config))
    found = []
    for axis in space.axes:
        place = axis.values.index(choices[axis.name])
        found.append(place / max(len(axis.values) - 1, 1))
    return found


# --- losses -------------------------------------------------------------------------------------


def scaled(values: NDArray[np.int64] | FloatArray) -> FloatArray:
    """Scale (n,) to 0..1; NaN stays."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    fraction: FloatArray = (np.asarray(values, dtype=np.float64) - low) / (high - low)
    return fraction


def macs_loss(costs: CostArrays) -> tuple[FloatArray, Objective]:
    """The logarithm of MACs as a loss, which samplers may compute."""
    logs = np.log(costs.macs)
    low, high = float(logs.min()), float(logs.max())
    objective = Objective("macs", exact=lambda others: (np.log(others.macs) - low) / (high - low))
    return scaled(logs), objective


ROUGHNESS = 0.2
"""Range of the utility's rough part, in standard deviations of the rest."""


def utility(table: Slice, seed: int) -> FloatArray:
    """An analytic quality (n,) of all networks of a slice.

    With the place ``t`` of an axis' value, 0 to 1, it is the sum of

    - for each ordered axis ``-w ((t - p) / max(p, 1 - p))^2``: best at ``p``, uniform in
      0.4..1.1, so that the largest value often is not;
    - for each categorical axis ``w`` times a value in -0.5..0.5 for each category;
    - for as many random pairs of axes as there are axes ``v cos(pi (t - t'))``, v normal with
      deviation 0.5: interactions;
    - a rough part, uniform and independent from network to network.

    The weights w are gamma distributed with shape 2 and mean 1, for widths and depths 1.5.
    """
    rng = np.random.default_rng(seed)
    total = np.zeros(len(table.configs))
    for axis, t in zip(table.space.axes, table.places.T, strict=True):
        weight = rng.gamma(2.0, 0.75 if axis.name.startswith(("width", "depth")) else 0.5)
        peak = rng.uniform(0.4, 1.1)
        levels = rng.uniform(-0.5, 0.5, len(axis.values))
        if axis.ordered:
            total -= weight * np.square((t - peak) / max(peak, 1 - peak))
        else:
            total += weight * levels[np.rint(t * (len(levels) - 1)).astype(np.int64)]
    for _ in table.space.axes:
        one, other = rng.choice(len(table.space.axes), 2, replace=False)
        difference = table.places[:, one] - table.places[:, other]
        total += rng.normal(scale=0.5) * np.cos(np.pi * difference)
    salt = str(seed)
    rough = [zlib.crc32((salt + config.variant_id).encode()) / 2**32 for config in table.configs]
    found: FloatArray = total + ROUGHNESS * total.std() * np.array(rough)
    return found


MACS_A_MS, ELEMENTS_A_MS, MS_A_BLOCK = 2e7, 1e6, 0.2
"""A machine's rates for :func:`latency`; of the order of one core's."""


def latency(table: Slice) -> FloatArray:
    """A model of latency (n,) in milliseconds: arithmetic, memory traffic, overhead of blocks."""
    depths = [index for index, axis in enumerate(table.space.axes) if "depth" in axis.name]
    values = [np.array(table.space.axes[index].integers) for index in depths]
    blocks = sum(
        options[np.rint(table.places[:, index] * (len(options) - 1)).astype(np.int64)]
        for index, options in zip(depths, values, strict=True)
    )
    costs = table.costs
    total: FloatArray = costs.macs / MACS_A_MS + costs.activations / ELEMENTS_A_MS
    total += MS_A_BLOCK * blocks
    return total


def spheres(table: Slice, seed: int) -> FloatArray:
    """Losses (n, 3) after DTLZ2 (Deb, Thiele, Laumanns, Zitzler, 2005) on the axes' places.

    The two axes with the most values are the angles. The distance from the front is the sum of the
    other axes' squared distances, each from a value drawn for it.
    """
    rng = np.random.default_rng(seed)
    sizes = np.array([len(axis.values) for axis in table.space.axes])
    order = [index for index in np.argsort(-sizes, kind="stable") if sizes[index] > 1]
    distance = np.zeros(len(table.configs))
    for index in order[2:]:
        best = rng.integers(sizes[index]) / (sizes[index] - 1)
        distance += np.square(table.places[:, index] - best)
    first, second = (table.places[:, index] * np.pi / 2 for index in order[:2])
    shape = [np.cos(first) * np.cos(second), np.cos(first) * np.sin(second), np.sin(first)]
    losses: FloatArray = (1 + distance)[:, None] * np.column_stack(shape)
    losses /= losses.max(axis=0)
    return losses


# --- problems -----------------------------------------------------------------------------------


def two_losses() -> Problem:
    """MACs against utility, on SepViTs."""
    table = tabulate("sepvit", SEPVIT_VALUES)
    macs, objective = macs_loss(table.costs)
    return Problem.of(
        table, [macs, scaled(-utility(table, seed=0))], [objective, Objective("utility")]
    )


def three_losses() -> Problem:
    """MACs, modelled latency and utility, on hybrids: the objectives of a search."""
    table = tabulate("hybrid", HYBRID_VALUES)
    macs, objective = macs_loss(table.costs)
    return Problem.of(
        table,
        [macs, scaled(np.log(latency(table))), scaled(-utility(table, seed=1))],
        [objective, Objective("latency"), Objective("utility")],
    )


def closed_form() -> Problem:
    """Most parameters for least MACs and memory, on MobileViTv2s."""
    table = tabulate("mobilevitv2", MOBILEVITV2_VALUES)
    macs, objective = macs_loss(table.costs)
    return Problem.of(
        table,
        [macs, scaled(-np.log(table.costs.params)), scaled(np.log(table.costs.peak_elements))],
        [objective, Objective("parameters"), Objective("memory")],
    )


def discrete_spheres() -> Problem:
    """DTLZ2 on the axes of EfficientViTs; nothing of it is in closed form."""
    table = tabulate("efficientvit", EFFICIENTVIT_VALUES)
    losses = spheres(table, seed=1)
    return Problem.of(table, list(losses.T), [Objective(f"f{index}") for index in (1, 2, 3)])


def recorded() -> Problem:
    """Real measurements of all networks of a slice, replayed: MACs, latency, the proxy's loss.

    Networks that the table lacks have no values: samplers may ask whether a network has.
    """
    measured = read_table()
    table = tabulate("sepvit", VALUES)
    found = np.full((len(table.configs), 2), np.nan)
    numbers = {config: number for number, config in enumerate(table.configs)}
    rows = [numbers[config] for config in measured.configs]
    found[rows] = np.column_stack([np.log(measured.latency_ratio), measured.cross_entropy])
    macs, objective = macs_loss(table.costs)
    macs[np.isnan(found).any(axis=1)] = np.nan
    return Problem.of(
        table,
        [macs, scaled(found[:, 0]), scaled(found[:, 1])],
        [objective, Objective("latency"), Objective("loss of the proxy")],
    )


@dataclasses.dataclass(frozen=True)
class ProblemKind:
    """A problem that can be chosen.

    Attributes:
        statement: What it is.
        build: Makes it; takes seconds.
        data: A file that it is made of, if any.
    """

    statement: str
    build: Callable[[], Problem]
    data: Path | None = None

    @property
    def available(self) -> bool:
        """Whether its file is there."""
        return self.data is None or self.data.exists()


PROBLEMS: dict[str, ProblemKind] = {
    "sepvit": ProblemKind("MACs, utility; SepViTs", two_losses),
    "hybrid": ProblemKind("MACs, modelled latency, utility; hybrids", three_losses),
    "costs": ProblemKind("MACs, parameters (most), peak memory; MobileViTv2s", closed_form),
    "spheres": ProblemKind("DTLZ2 on axes; EfficientViTs", discrete_spheres),
    "recorded": ProblemKind(
        "MACs, measured latency, the proxy's loss; SepViTs", recorded, DATA / TABLE
    ),
}


def problem(name: str) -> Problem:
    """Make a problem.

    Raises:
        ConfigError: No such problem; the message lists the known names.
    """
    if name not in PROBLEMS:
        raise unknown_name("problem", name, PROBLEMS)
    return PROBLEMS[name].build()
