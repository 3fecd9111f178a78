"""Every resolved setting of a run, and what a resumed run must share with its start."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from effvit import ConfigError
from effvit.config import Resolution
from search.datasets import EMBEDDED, DataSettings
from search.latency import LatencyProtocol
from search.proxy import ProxyRecipe
from search.proxy.tasks import CUE
from search.proxy.transfer import TransferRecipe
from search.quantities import Budgets
from search.records import Scale
from search.samplers import Objective
from search.workers import TrainingRecipe

SETTINGS = "settings.json"
OBJECTIVES = {"accuracy": "maximize", "macs": "minimize", "latency_ms": "minimize"}
KNOWN = (
    Objective("accuracy"),
    Objective("macs", log=True, exact=lambda costs: costs.macs),
    Objective("latency_ms", log=True),
)
"""What samplers know of the objectives: on which scale they count, and which need no trial."""


class Proxy(str, enum.Enum):
    """What says how accurate the variants of a search are; finalists are trained in any case."""

    TRAINING = "training"
    SUPERNET = "supernet"


def _searched(data: DataSettings) -> dict[str, Any]:
    """What trials depend on; the name of the test part may turn out to be wrong at the end."""
    return {name: value for name, value in data.to_dict().items() if name != "test_part"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What defines a run.

    Attributes:
        space, resolution: Where variants come from.
        data: What they are trained on; :data:`search.datasets.EMBEDDED` is the embedded task.
        data_resolution: Of the images of another data set, in pixels; None for the embedded task.
        seed: Of the sampler and of the proxy's training.
        sampler: Its name in :data:`search.samplers.SAMPLERS`.
        sampler_reason: Why it is this one, in a line.
        budgets: What variants may cost.
        device: The torch device whose latency counts.
        threads: CPU threads of a latency measurement.
        latency: How latency is measured.
        latency_source: Whether latencies of trials are ``measured`` or ``predicted``.
        search_recipe, final_recipe: How each trial is trained, and how the finalists are.
        trials: Trials in all; may grow when the run is resumed.
        workers: Processes that train side by side.
        finalists, final_seeds: How many of the front are trained again, with how many seeds.
        storage: URL of Optuna's storage; None for the journal in the run's folder.
        fidelities: Their name in :data:`search.fidelities.FIDELITIES`.
        processor: Name of what latency is measured on: a run goes on where it began.
        proxy: What says how accurate variants are, of :class:`Proxy`.
        tasks: Those of the embedded ones that accuracy is the mean of; with other data it is not
            used.
    """

    space: str
    resolution: Resolution
    data: DataSettings = dataclasses.field(default_factory=DataSettings)
    data_resolution: Resolution | None = None
    seed: int
    sampler: str
    budgets: Budgets
    device: str
    threads: int
    latency: LatencyProtocol
    search_recipe: TrainingRecipe
    final_recipe: TrainingRecipe
    trials: int
    workers: int
    finalists: int
    final_seeds: int
    storage: str | None = None
    latency_source: str = "measured"
    sampler_reason: str = "asked for"
    fidelities: str = "full"
    processor: str = ""
    proxy: str = "training"
    tasks: tuple[str, ...] = (CUE,)

    FREE = ("trials", "workers", "finalists", "final_seeds", "storage", "sampler_reason")
    """What may differ when a run is resumed."""

    @property
    def embedded(self) -> bool:
        """Whether variants are trained on the embedded task."""
        return self.data.source == EMBEDDED

    def identity(self) -> dict[str, Any]:
        """Everything that the results depend on, as JSON values."""
        values = dataclasses.asdict(self) | {"data": _searched(self.data)}
        shared = {name: value for name, value in values.items() if name not in self.FREE}
        if len(self.tasks) > 1 and isinstance(self.search_recipe, ProxyRecipe):
            shared["further_recipe"] = TransferRecipe.following(self.search_recipe).to_dict()
        return json.loads(json.dumps(shared))  # type: ignore[no-any-return]


EARLIER: Mapping[str, Any] = {
    "fidelities": "full",
    "proxy": Proxy.TRAINING.value,
    "data": _searched(DataSettings()),
    "data_resolution": None,
    "tasks": [CUE],
}
"""What folders of older versions do not say: it was all there was."""

EARLIER_RECIPE: Mapping[str, Any] = {"retry_recognition_weight": 1.0}
"""The same of recipes of the embedded task."""


def as_begun(recipe: TrainingRecipe, saved: Mapping[str, Any] | None) -> TrainingRecipe:
    """The recipe with which a folder goes on: one of an older version, as it was then.

    Args:
        recipe: Of this version.
        saved: The folder's, as JSON values; None for a new folder.
    """
    if saved is None or not isinstance(recipe, ProxyRecipe):
        return recipe
    unsaid = {name: value for name, value in EARLIER_RECIPE.items() if name not in saved}
    return dataclasses.replace(recipe, **unsaid)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What a run measures once, at its start, so that all of its numbers share a scale.

    Attributes:
        reference_ms: Median latency of the reference network.
        scale: Bounds of the objectives.
    """

    reference_ms: float
    scale: Scale

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Calibration:
        """Read JSON values.

        Raises:
            ValueError, TypeError, KeyError: Something is missing, or not a number.
        """
        scale = {name: float(value) for name, value in values["scale"].items()}
        return cls(float(values["reference_ms"]), Scale(**scale))


def read_saved(folder: Path) -> dict[str, Any] | None:
    """Read ``settings.json`` of a folder; None if there is none.

    Raises:
        ConfigError: It is unreadable, or the folder holds a study without it.
    """
    path = folder / SETTINGS
    if not path.exists():
        if any(folder.glob("*.journal")):
            raise ConfigError(f"{folder} holds a study without {SETTINGS}; choose another --out")
        return None
    try:
        saved: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        dict(saved["identity"])
        Calibration.from_dict(saved["calibration"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{path} is unreadable: restore it, or choose another --out") from error
    return saved


def check_same_run(saved: dict[str, Any], settings: RunSettings, folder: Path) -> Calibration:
    """Compare with what a folder was started with.

    Returns:
        The calibration of its start.

    Raises:
        ConfigError: They differ; the message names the first difference.
    """
    ours, theirs = _flat(settings.identity()), _flat(saved["identity"])
    theirs.setdefault("processor", settings.processor)  # folders of older versions do not say
    for name, value in _flat(EARLIER).items():
        theirs.setdefault(name, value)
    for recipe in ("search_recipe", "final_recipe"):
        for name, value in EARLIER_RECIPE.items():
            theirs.setdefault(f"{recipe}.{name}", value)
    if theirs["processor"] != settings.processor:
        raise ConfigError(
            f"{folder} was begun on {theirs['processor']}, and this is {settings.processor}: their "
            "latencies do not compare; go on there, or choose another --out"
        )
    for name, value in ours.items():
        if name not in theirs or theirs[name] != value:
            raise ConfigError(
                f"{folder} holds another study: its {name} is {theirs.get(name)!r}, not {value!r}; "
                "choose another --out, or the settings it was started with"
            )
    return Calibration.from_dict(saved["calibration"])


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat
