"""Tables of measured networks, kept in the user's cache: one for each machine and way to run.

A table is a folder: ``key.json`` says what was measured, ``samples.jsonl`` holds a line for each
measured network. Lines are appended in one piece, so that a stop at any moment leaves a table that
can be used and continued.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import filelock
import numpy as np
import platformdirs

import effvit
from effvit import ConfigError, ModelConfig, as_config
from effvit.backends import BACKENDS, Execution
from effvit.config import Resolution
from search.environment import device_name
from search.latency.predictor import LatencyPredictor
from search.latency.protocol import Latency, LatencyProtocol
from search.latency.work import model_work

CACHE = "EFFVIT_CACHE"
"""Environment variable that names another folder than the user's cache."""

Role = Literal["table", "held_out"]
"""Networks that predictions are fitted to, and those that they are compared with."""


@dataclasses.dataclass(frozen=True)
class TableKey:
    """What a table is about: nothing of it may differ where the table is used.

    Attributes:
        space: Name of the search space.
        resolution: Height and width of the images.
        device: Name of the processor or GPU.
        system: Operating system and architecture.
        execution: How networks are run.
        threads: CPU threads; 0 on a GPU.
        batch: Images a call.
        reference: The network that ratios refer to.
        versions: Versions of the libraries that run networks.
        code: Digest of this project's networks: another implementation has another latency.
    """

    space: str
    resolution: Resolution
    device: str
    system: str
    execution: Execution
    threads: int
    batch: int
    reference: str
    versions: tuple[str, ...]
    code: str

    @classmethod
    def here(
        cls,
        space: str,
        resolution: Resolution,
        device: str,
        threads: int,
        protocol: LatencyProtocol,
        execution: Execution | None = None,
    ) -> TableKey:
        """Describe this machine and these settings.

        Args:
            space: Name of the search space.
            resolution: Height and width of the images.
            device: A torch device.
            threads: CPU threads.
            protocol: Its batch and reference network are part of the key.
            execution: How networks are run; eager in float32 if not given.
        """
        execution = execution or Execution()
        libraries = ("torch", *BACKENDS[execution.backend].modules)
        return cls(
            space=space,
            resolution=resolution,
            device=device_name(device),
            system=f"{platform.system()} {platform.machine()}",
            execution=execution,
            threads=threads if device == "cpu" else 0,
            batch=protocol.batch,
            reference=protocol.reference,
            versions=tuple(f"{name} {importlib.metadata.version(name)}" for name in libraries),
            code=network_code(),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return values

    @property
    def name(self) -> str:
        """Name of its folder: readable, and different for different keys."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        height, width = self.resolution
        return f"{self.space}-{height}x{width}-{self.execution.backend}-{digest}"


@functools.cache
def network_code() -> str:
    """Digest of the files that networks are made of."""
    digest = hashlib.sha256()
    root = Path(effvit.__file__).parent / "networks"
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def cache_folder() -> Path:
    """Where tables are kept: ``EFFVIT_CACHE`` if set, else the user's cache folder."""
    root = os.environ.get(CACHE) or platformdirs.user_cache_dir("effvit-workbench")
    return Path(root) / "latency"


@dataclasses.dataclass(frozen=True)
class Sample:
    """One measured network.

    Attributes:
        role: What it is for.
        config: The network, as JSON values.
        ratio, low, high: Ratio to the reference network and its 95 % interval.
        runs: Counted runs.
        loaded: Whether the machine was flagged as loaded meanwhile.
        seconds: Time that building and measuring took.
    """

    role: Role
    config: dict[str, Any]
    ratio: float
    low: float
    high: float
    runs: int
    loaded: bool
    seconds: float = 0.0

    @classmethod
    def of(
        cls,
        role: Role,
        config: ModelConfig,
        latency: Latency,
        reference_ms: float,
        seconds: float = 0.0,
    ) -> Sample:
        """Make it of a measurement that took ``seconds``, the reference ``reference_ms``."""
        return cls(
            role=role,
            config=json.loads(config.to_json()),
            ratio=latency.ratio,
            low=latency.low_ms / reference_ms,
            high=latency.high_ms / reference_ms,
            runs=latency.runs,
            loaded=latency.state is not None and latency.state.loaded,
            seconds=seconds,
        )

    @property
    def model_config(self) -> ModelConfig:
        """The network's configuration."""
        return as_config(self.config)


class LatencyTable:
    """A table on the disk.

    Attributes:
        key: What it is about.
        folder: Where it is.
        samples: What it holds, in the order of measuring.
    """

    def __init__(self, key: TableKey, root: Path | None = None) -> None:
        """Open a table, empty if there is none yet; nothing is written.

        Args:
            key: What it is about.
            root: Folder of all tables; the user's cache if not given.

        Raises:
            ConfigError: It is damaged.
        """
        self.key = key
        self.folder = (root or cache_folder()) / key.name
        self.samples: list[Sample] = []
        self._read()

    @property
    def _path(self) -> Path:
        return self.folder / "samples.jsonl"

    def _read(self) -> None:
        """Read all samples; a last line that a stop left unfinished does not count."""
        self._sound = 0
        if not self._path.exists():
            return
        for number, line in enumerate(self._path.read_bytes().splitlines(keepends=True), start=1):
            if not line.endswith(b"\n"):
                return
            try:
                self.samples.append(Sample(**json.loads(line)))
            except (ValueError, TypeError) as error:
                raise ConfigError(
                    f"{self._path} is damaged at line {number}: delete the folder to start anew"
                ) from error
            self._sound += len(line)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the table for this process, ready to append.

        Raises:
            ConfigError: Another process holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = filelock.FileLock(self.folder / ".lock").acquire(timeout=0)
        except filelock.Timeout:
            raise ConfigError(f"another process is writing to {self.folder}; wait for it") from None
        with lock:
            self.samples.clear()
            self._read()
            if self._path.exists():
                os.truncate(self._path, self._sound)
            (self.folder / "key.json").write_text(
                json.dumps(self.key.to_dict(), indent=2) + "\n", encoding="utf-8"
            )
            yield

    def append(self, sample: Sample) -> None:
        """Add a sample, in one write; only while :meth:`writing`."""
        line = json.dumps(dataclasses.asdict(sample)).encode() + b"\n"
        with self._path.open("ab", buffering=0) as file:
            file.write(line)
            os.fsync(file.fileno())
        self.samples.append(sample)

    def of_role(self, role: Role) -> list[Sample]:
        """Samples of one role."""
        return [sample for sample in self.samples if sample.role == role]

    def predictor(self) -> LatencyPredictor:
        """Fit a prediction to the table.

        Raises:
            ConfigError: It holds too few networks.
        """
        return fit_predictor(self.of_role("table"))


def fit_predictor(samples: Sequence[Sample]) -> LatencyPredictor:
    """Fit a prediction to measured networks of one space.

    Raises:
        ConfigError: They are too few.
    """
    configs = [sample.model_config for sample in samples]
    work = model_work(configs) if configs else np.empty((0, 0))
    return LatencyPredictor(work, np.array([sample.ratio for sample in samples]))
