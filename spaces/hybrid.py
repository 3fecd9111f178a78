"""The space of hybrids: SepViT's macro-architecture with any attention type in each stage.

Family: :mod:`effvit.designs.hybrid`. This is SepViT's space (:mod:`spaces.sepvit`) with ten more
values of each stage's attention. What only one of these types reads is no axis but the same in all
networks, see :data:`spaces.hybrid_blocks.FIXED`.

How distinct networks are counted without listing them. Depth and attention of a stage, with the
*pair* of window size and group count that all stages share, make its *sequence*: the designs of its
blocks in their normal form. A sequence may come from several pairs (from all of them, if no block
reads windows), and sequences of four stages form a network exactly when at least one pair makes all
four. Beside its pairs, two things about a sequence matter outside its stage: whether a block has
several windows to represent, and what its number of heads must be divisible by. Sequences that
agree in all this behave alike, and so do beginnings of networks; the count goes from stage to stage
over classes of them, not over the sequences themselves.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import operator
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from effvit import ModelConfig, list_models, model_config
from effvit.cost import CostArrays
from effvit.designs.hybrid import (
    DESIGNS,
    HybridColumns,
    HybridConfig,
    block_designs,
    cost_arrays,
)
from effvit.designs.macro import STAGES
from effvit.designs.sepvit import SepViTConfig
from spaces.axes import Axis, Choices, InvalidVariant, Rule, Value
from spaces.counted import Chain, Counted, Listed, Numbers, Product, Union, side_by_side
from spaces.hybrid_blocks import (
    ATTENTION,
    FIXED,
    MULTI_SCALE,
    NONE,
    Blocks,
    alike,
    as_hybrid,
    block_rules,
    head_divisor,
    pair_of,
    plain,
    several_windows,
    stage_blocks,
)
from spaces.sepvit import ATTENTIONS, DEPTHS, WIDTHS, Pair, SepViTSpace, mixing
from spaces.space import Space
from spaces.stages import growing_rules, stage_integers

_SETTINGS = ("windows", "groups", "stripes", "sub_sampling", "linformer_lengths")
_WRITTEN = ("depths", "attention", *_SETTINGS)
"""Fields whose entry for a stage follows from its sequence; of these, the ones with integers."""

_SEARCHED = (
    *("widths", "heads", "mlp_ratio", "window_representation", "pointwise_attention"),
    *("scales", *_WRITTEN),
)
"""Fields of the configuration that follow from the axes; the others stay at their defaults."""


class _Network(NamedTuple):
    """All that tells one network of the space from another.

    ``heads`` are 1 where nothing reads them, ``sequences`` are numbers within their stages.
    """

    widths: tuple[int, ...]
    heads: tuple[int, ...]
    mlp_ratio: float
    sequences: tuple[int, ...]
    representation: str


class _Kind(NamedTuple):
    """What matters of a sequence outside its stage.

    Attributes:
        pairs: The pairs that make it, as a bit mask.
        several: Whether a block has several windows to represent.
        divisor: What the number of heads must be divisible by; 0 without heads.
    """

    pairs: int
    several: bool
    divisor: int


@dataclasses.dataclass(frozen=True)
class _Stage:
    """The valid sequences of one stage, numbered.

    Attributes:
        sequences: The sequences, in the order of their numbers.
        several: For each sequence, whether a block has several windows to represent.
        divisors: For each sequence, what the number of heads must be divisible by; 0 without heads.
        number: The sequence that ``(window size, group count, depth, attention)`` make.
        sources: Where each sequence comes from: values of attention by pair.
    """

    sequences: tuple[Blocks, ...]
    several: tuple[bool, ...]
    divisors: tuple[int, ...]
    number: Mapping[tuple[Value, ...], int]
    sources: tuple[Mapping[Pair, list[str]], ...]

    def kinds(self, pairs: Sequence[Pair]) -> Mapping[_Kind, Listed[int]]:
        """Numbers of the sequences by their kind."""
        kinds: dict[_Kind, list[int]] = defaultdict(list)
        rows = zip(self.sources, self.several, self.divisors, strict=True)
        for number, (sources, several, divisor) in enumerate(rows):
            mask = sum(1 << bit for bit, pair in enumerate(pairs) if pair in sources)
            kinds[_Kind(mask, several, divisor)].append(number)
        return {kind: Listed(numbers) for kind, numbers in kinds.items()}

    def nearest(self, blocks: Blocks) -> str:
        """The valid choice whose sequence differs least in depth, then in blocks."""
        nearest = min(
            range(len(self.sequences)),
            key=lambda number: (
                abs(len(self.sequences[number]) - len(blocks)),
                sum(map(operator.ne, self.sequences[number], blocks)),
            ),
        )
        ((size, groups), (attention, *_)), *_ = self.sources[nearest].items()
        depth = len(self.sequences[nearest])
        return f"{depth} of {attention} with window_size {size} and group_count {groups}"


class HybridSpace(Space):
    """Hybrids: what neither axes nor :data:`FIXED` name is as in :class:`HybridConfig`'s defaults.

    Distinct networks are those whose canonical configurations differ. Choices collapse where

    - windows cover the map, which leaves full attention, or DSSA over a single window;
    - a stage is too shallow for the second type of its pattern;
    - no stage reads a window size, a group count, a representation or heads.
    """

    name: ClassVar[str] = "hybrid"
    AXES: ClassVar[tuple[Axis, ...]] = tuple(
        dataclasses.replace(axis, values=tuple(ATTENTION)) if axis.name in ATTENTIONS else axis
        for axis in SepViTSpace.AXES
    )

    def _make_rules(self) -> tuple[Rule, ...]:
        return (*growing_rules(WIDTHS), *block_rules(self.resolution))

    # --- tables, made once ----------------------------------------------------------------------

    @functools.cached_property
    def _stages(self) -> tuple[_Stage, ...]:
        return tuple(map(self._stage, range(STAGES)))

    def _stage(self, stage: int) -> _Stage:
        names = ("window_size", "group_count", DEPTHS[stage], ATTENTIONS[stage])
        numbers: dict[Blocks, int] = {}
        made: dict[tuple[Value, ...], int] = {}
        sources: dict[int, dict[Pair, list[str]]] = defaultdict(lambda: defaultdict(list))
        for choices in self._valid_choices(*names):
            blocks = stage_blocks(choices, stage, self.resolution)
            number = numbers.setdefault(blocks, len(numbers))
            made[tuple(choices.values())] = number
            sources[number][pair_of(choices)].append(str(choices[ATTENTIONS[stage]]))
        return _Stage(
            sequences=tuple(numbers),
            several=tuple(map(several_windows, numbers)),
            divisors=tuple(map(head_divisor, numbers)),
            number=made,
            sources=tuple(sources.values()),
        )

    @functools.cached_property
    def _pairs(self) -> tuple[Pair, ...]:
        return tuple(map(pair_of, self._valid_choices("window_size", "group_count")))

    # --- networks -------------------------------------------------------------------------------

    def _count(self) -> Counted[Any]:
        several = Listed(map(str, self._axis["window_representation"].values))
        forms = (
            Product(self._shapes(heads), several if mixes else Listed([NONE]), sequences)
            for (mixes, heads), sequences in self._sequences().items()
        )
        return Product(Listed(self._axis["mlp_ratio"].integers), Union(forms))

    def _sequences(self) -> Mapping[tuple[bool, tuple[int, ...]], Counted[Any]]:
        """All sequences of four stages, as nested pairs of beginning and last number.

        Returns:
            By whether any block has several windows, and by what the stages' numbers of heads must
            be divisible by.
        """
        every = (1 << len(self._pairs)) - 1
        partial: dict[tuple[int, bool, tuple[int, ...]], Counted[Any]]
        partial = {(every, False, ()): Product()}
        for stage in self._stages:
            kinds = stage.kinds(self._pairs)
            grown: dict[tuple[int, bool, tuple[int, ...]], list[Counted[Any]]] = defaultdict(list)
            for (pairs, several, heads), before in partial.items():
                for kind, members in kinds.items():
                    if pairs & kind.pairs:
                        key = pairs & kind.pairs, several or kind.several, (*heads, kind.divisor)
                        grown[key].append(Product(before, members))
            partial = {key: Union(parts) for key, parts in grown.items()}
        forms: dict[tuple[bool, tuple[int, ...]], list[Counted[Any]]] = defaultdict(list)
        for (_, several, heads), sequences in partial.items():
            forms[several, heads].append(sequences)
        return {form: Union(parts) for form, parts in forms.items()}

    def _shapes(self, divisors: tuple[int, ...]) -> Counted[tuple[int, tuple[int, ...]]]:
        """Head width (1 if no stage has heads) and widths of stages with such numbers of heads."""
        layers = [self._axis[name].integers for name in WIDTHS]
        return Union(
            Product(
                Listed([head]),
                Chain(
                    [
                        [width for width in widths if not divisor or width % (head * divisor) == 0]
                        for widths, divisor in zip(layers, divisors, strict=True)
                    ],
                    operator.le,
                ),
            )
            for head in (self._axis["head_width"].integers if any(divisors) else (1,))
        )

    def _numbered(self, parts: Any) -> HybridConfig:  # noqa: ANN401 - as in the base class
        ratio, ((head, widths), representation, nested) = parts
        sequences = _flat(nested)
        heads = self._heads(widths, head, sequences)
        return self._config(_Network(widths, heads, float(ratio), sequences, representation))

    def _costs(self, numbers: Numbers) -> CostArrays:
        ratios, ((head, chain), representation, nested) = self._networks.columns(numbers)
        widths = side_by_side([width.integers() for width in chain])
        stages = [
            sequence.integers(functools.partial(self._layout, stage))
            for stage, sequence in enumerate(_flat(nested))
        ]
        layout = side_by_side(stages)
        headed, settings, counts = np.split(layout, [1, 1 + len(_SETTINGS)], axis=2)
        same = HybridConfig(image_size=self.resolution, scales=FIXED["scales"])
        return cost_arrays(
            HybridColumns.from_configs([same]).varied(
                widths=widths,
                heads=np.where(headed[:, :, 0], widths // head.integers()[:, None], 1),
                hidden=widths * ratios.integers()[:, None],
                counts=counts,
                **dict(zip(_SETTINGS, np.moveaxis(settings, 2, 0), strict=True)),
                **mixing(representation),
            )
        )

    def _layout(self, stage: int, sequence: int) -> list[int]:
        """Whether a sequence has heads, its settings, and how many blocks have each design."""
        depth, attention, *settings = self._written(stage, sequence)
        designs = list(block_designs(attention, depth))
        headed = int(self._stages[stage].divisors[sequence] > 0)
        return [headed, *settings, *map(designs.count, DESIGNS)]

    def _heads(self, widths: Sequence[int], head: int, sequences: Sequence[int]) -> tuple[int, ...]:
        """Heads of each stage; 1 where no block reads them."""
        return tuple(
            width // head if stage.divisors[number] else 1
            for stage, width, number in zip(self._stages, widths, sequences, strict=True)
        )

    def _config(self, network: _Network) -> HybridConfig:
        stages = [self._written(*pair) for pair in enumerate(network.sequences)]
        written = dict(zip(_WRITTEN, zip(*stages, strict=True), strict=True))
        aggregates = any(MULTI_SCALE in pattern for pattern in written["attention"])
        mixes = network.representation != NONE
        fields: dict[str, Any] = {
            **written,
            "image_size": self.resolution,
            "widths": network.widths,
            "heads": network.heads,
            "mlp_ratio": network.mlp_ratio,
            "window_representation": network.representation,
            "pointwise_attention": "multi_window" if mixes else "off",
            "scales": FIXED["scales"] if aggregates else (),
        }
        return HybridConfig(**fields)

    def _written(self, stage: int, sequence: int) -> tuple[Any, ...]:
        """The stage's entries of the fields :data:`_WRITTEN`, in canonical form."""
        key = stage, sequence
        if key not in self._known:
            (pair, (attention, *_)), *_ = self._stages[stage].sources[sequence].items()
            depth = len(self._stages[stage].sequences[sequence])
            config = alike(self.resolution, pair, attention, depth).canonical()
            self._known[key] = tuple(getattr(config, name)[stage] for name in _WRITTEN)
        return self._known[key]

    @functools.cached_property
    def _known(self) -> dict[tuple[int, int], tuple[Any, ...]]:
        """What :meth:`_written` has found."""
        return {}

    def _identity(self, choices: Choices) -> _Network:
        pair, widths = pair_of(choices), stage_integers(choices, WIDTHS)
        names = zip(self._stages, DEPTHS, ATTENTIONS, strict=True)
        keys = ((stage, (*pair, choices[depth], choices[name])) for stage, depth, name in names)
        sequences = tuple(stage.number[key] for stage, key in keys)
        mixes = any(s.several[number] for s, number in zip(self._stages, sequences, strict=True))
        return _Network(
            widths,
            self._heads(widths, int(choices["head_width"]), sequences),
            float(choices["mlp_ratio"]),
            sequences,
            str(choices["window_representation"]) if mixes else NONE,
        )

    def _build(self, choices: Choices) -> HybridConfig:
        return self._config(self._identity(choices))

    def family_variants(self) -> dict[str, ModelConfig]:
        """SepViT's published models as hybrids: no paper has published another composition."""
        written = ((name, model_config(name)) for name in list_models())
        return {name: as_hybrid(c) for name, c in written if isinstance(c, SepViTConfig)}

    # --- the way back ---------------------------------------------------------------------------

    def encodings(self, config: ModelConfig) -> Iterator[Choices]:
        """All valid choices that make this same network, in a fixed order."""
        if not isinstance(config, HybridConfig):
            raise InvalidVariant(f"space hybrid holds family hybrid, got family {config.family}")
        network = config.canonical()
        self._check_fixed(network, _SEARCHED)
        sources = self._locate(network)
        pairs = [pair for pair in self._pairs if all(pair in source for source in sources)]
        if not pairs:
            raise InvalidVariant(
                "all stages must share one window_size and group_count of the space, got windows "
                f"{network.windows} and groups {network.groups}"
            )
        shown = self._shown(network)
        found = (
            dict(zip(self._axis, values, strict=True))
            for pair in pairs
            for values in itertools.product(
                *({**shown, **_of_pair(pair, sources)}[axis.name] for axis in self.axes)
            )
        )
        first = next(found)
        broken = self._broken(first)
        if broken:
            raise InvalidVariant("; ".join(broken))
        if network.pointwise_attention == "always":
            raise InvalidVariant(
                "pointwise_attention must be multi_window or off in this space, got 'always' with "
                "single-window blocks"
            )
        return itertools.chain([first], found)

    def _locate(self, config: HybridConfig) -> list[Mapping[Pair, list[str]]]:
        """Where the stages' blocks come from: values of attention by pair."""
        found = []
        for number, (stage, planned) in enumerate(
            zip(self._stages, config.plan(), strict=True), start=1
        ):
            blocks = tuple(map(plain, planned.blocks))
            if blocks not in stage.sequences:
                raise InvalidVariant(
                    f"stage {number}'s blocks must come from a depth, attention, window_size and "
                    "group_count of the space and pad no more than it allows, got "
                    f"{'+'.join(config.attention[number - 1])}"
                    f" (nearest valid: {stage.nearest(blocks)})"
                )
            found.append(stage.sources[stage.sequences.index(blocks)])
        return found

    def _shown(self, config: HybridConfig) -> dict[str, Sequence[Value]]:
        """Values of the axes that a configuration shows whatever the pair: several if unread."""
        blocks = [tuple(map(plain, stage.blocks)) for stage in config.plan()]
        representation, head_width = self._axis["window_representation"], self._axis["head_width"]
        heads = {
            width // count
            for width, count, stage in zip(config.widths, config.heads, blocks, strict=True)
            if head_divisor(stage)
        }
        if len(heads) > 1:
            raise InvalidVariant(f"all stages share one head_width, got {sorted(heads)}")
        mixes = any(map(several_windows, blocks))
        single: dict[str, object] = {
            **dict(zip(WIDTHS, config.widths, strict=True)),
            **dict(zip(DEPTHS, config.depths, strict=True)),
            "mlp_ratio": config.mlp_ratio,
            **({"window_representation": config.window_representation} if mixes else {}),
            **({"head_width": heads.pop()} if heads else {}),
        }
        shown: dict[str, Sequence[Value]] = {
            name: (self._axis[name].read(self._axis[name].write(value)),)
            for name, value in single.items()
        }
        return {
            "window_representation": representation.values,
            "head_width": head_width.values,
            **shown,
        }


def _flat(nested: tuple[Any, ...]) -> tuple[Any, ...]:
    """Entries of the four stages of nested pairs of beginning and last entry."""
    entries: tuple[Any, ...] = ()
    while nested:
        nested, last = nested
        entries = (last, *entries)
    return entries


def _of_pair(pair: Pair, sources: Sequence[Mapping[Pair, list[str]]]) -> dict[str, Sequence[Value]]:
    """Values of the axes that make the stages' blocks from a pair."""
    attention = {name: source[pair] for name, source in zip(ATTENTIONS, sources, strict=True)}
    return {"window_size": pair[:1], "group_count": pair[1:], **attention}
