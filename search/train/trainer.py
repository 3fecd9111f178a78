"""The training itself: steps, epochs, checkpoints, and going on exactly where it stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from timm.data import Mixup
from timm.loss import BinaryCrossEntropy, SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from effvit import ConfigError, create_model
from search.datasets import ImageData, ImageSource
from search.randomness import derived_seed, seeded
from search.records import write_csv
from search.train.feed import (
    Batch,
    Plan,
    images_of_epoch,
    measuring_batches,
    measuring_transform,
    training_batches,
    training_transform,
)
from search.train.measure import Measured, autocast, measure
from search.train.processes import Group
from search.train.progress import TrainingProgress
from search.train.recipe import Recipe
from search.train.settings import TrainingSettings

CHECKPOINT, LOG, WEIGHTS = "checkpoint.pt", "log.csv", "weights.safetensors"
"""Files of a training's folder."""

CHECKED_STEPS = 20
"""Steps after which the loss is looked at: on a GPU that waits for it."""

_INITIAL, _STEP = 3, 4  # what a seed is for


class TrainingFailed(RuntimeError):  # noqa: N818 - a state of a training, named as one
    """The loss is no finite number."""


@dataclasses.dataclass
class Position:
    """How far a training is.

    Attributes:
        epoch, step: What comes next.
        loss: Sum of the losses of this epoch's steps.
        rows: Rows of the log, one for each epoch that has ended.
    """

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)


class Trainer:
    """Trains one network.

    Everything random is a function of the seed and the place in the training, so the weights are
    the same to the bit whether it runs through or stops and goes on (on a CPU, with the same
    numbers of processes and threads).

    Args:
        settings: What to do.
        data: Images.
        group: The processes that work together; all make the same trainer.
        folder: Where checkpoint, log and weights are; a checkpoint there is gone on from. None
            writes nothing.
        workers: Processes that load images, for each process that trains.
        save_seconds: A checkpoint is written after so many seconds, and after each epoch.
        validate: Whether to measure on the validation images after each epoch, or at the end only.

    Raises:
        ConfigError: The batch does not fit, or the checkpoint is unreadable.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        data: ImageData,
        group: Group,
        folder: Path | None,
        *,
        workers: int = 0,
        save_seconds: float = 600.0,
        validate: Literal["each epoch", "end"] = "each epoch",
    ) -> None:
        self.settings = settings
        self.folder = folder
        self.position = Position()
        self._group = group
        self._workers = workers
        self._save_seconds = save_seconds
        self._validates = validate
        recipe, resolution = settings.recipe, settings.model.image_size
        self._train = data.train.transformed(training_transform(recipe, resolution))
        self._validation: ImageSource | None = None
        if data.validation is not None:
            self._validation = data.validation.transformed(measuring_transform(recipe, resolution))
        self._images = images_of_epoch(self._train, group)
        self.steps = Plan(settings, self._images, group).steps
        self._pieces = settings.pieces(group.size)[1]
        with seeded(derived_seed(settings.seed, _INITIAL)):
            self.model = create_model(settings.model).to(group.device)
        self.average = (
            ModelEmaV3(self.model, decay=recipe.average, use_warmup=True)
            if recipe.average is not None
            else None
        )
        self._optimizer, self._schedule = _optimizer(self.model, recipe, self.steps)
        self._scaler = torch.amp.GradScaler(
            group.device.type, enabled=settings.precision == "float16"
        )
        self._mixup, self._loss = _loss(recipe, len(data.classes))
        self._resume()
        self._network = _parallel(self.model, group)

    @property
    def updates(self) -> int:
        """Steps done in all."""
        return self.position.epoch * self.steps + self.position.step

    def run(self, progress: TrainingProgress | None = None) -> None:
        """Train to the end and write the weights, if there is a folder.

        Raises:
            TrainingFailed: The loss is no finite number.
            BrokenImage: An image cannot be read.
        """
        begun = self.position
        plan = Plan(self.settings, self._images, self._group, begun.epoch, begun.step)
        batches = training_batches(self._train, plan, self._workers)
        while self.position.epoch < self.settings.recipe.epochs:
            self._run_epoch(batches, progress)
            self._end_epoch(progress)
        if self.folder is not None and self._group.leads:
            write_weights(self.folder / WEIGHTS, self.final, self.settings)

    @property
    def _saves(self) -> bool:
        return self.folder is not None and self._group.leads

    @property
    def final(self) -> nn.Module:
        """The network whose weights count: the moving average's where there is one."""
        averaged: nn.Module | None = None if self.average is None else self.average.module
        return self.model if averaged is None else averaged

    def _run_epoch(self, batches: Iterator[Batch], progress: TrainingProgress | None) -> None:
        self._network.train()
        saved = time.monotonic()
        pending: list[Tensor] = []
        while self.position.step < self.steps:
            pending.append(self._step(list(itertools.islice(batches, self._pieces))))
            self.position.step += 1
            due = self._saves and time.monotonic() - saved > self._save_seconds
            last = self.position.step == self.steps
            if due or last or self.position.step % CHECKED_STEPS == 0:
                self._count(pending)
            if progress is not None:
                progress.step(None if pending else self.position.loss / self.position.step)
            if due and not last:
                self._save()
                saved = time.monotonic()

    def _step(self, pieces: list[Batch]) -> Tensor:
        """One step of the optimiser; returns this process's mean loss."""
        update = self.updates
        self._schedule.step_update(update)
        total = torch.zeros((), device=self._group.device)
        for number, piece in enumerate(pieces):
            seed = derived_seed(self.settings.seed, _STEP, update, self._group.rank, number)
            with seeded(seed), self._gradients_apart(number < len(pieces) - 1):
                loss = self._loss_of(piece) / len(pieces)
                self._scaler.scale(loss).backward()
            total += loss.detach()
        if self.settings.recipe.clip is not None:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.recipe.clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.model, step=update + 1)
        return total

    def _loss_of(self, piece: Batch) -> Tensor:
        images, targets = (part.to(self._group.device, non_blocking=True) for part in piece)
        if self._mixup is not None:
            images, targets = self._mixup(images, targets)
        with autocast(self._group.device, self.settings.precision):
            loss: Tensor = self._loss(self._network(images), targets)
        return loss

    def _gradients_apart(self, apart: bool) -> contextlib.AbstractContextManager[None]:
        """Keep gradients in this process: those of the step's last piece are shared for all."""
        if apart and isinstance(self._network, DistributedDataParallel):
            context: contextlib.AbstractContextManager[None] = self._network.no_sync()
            return context
        return contextlib.nullcontext()

    def _count(self, pending: list[Tensor]) -> None:
        """Add losses of steps to the epoch's; empties the list."""
        for loss in pending:
            self.position.loss += loss.item()
        pending.clear()
        if not math.isfinite(self.position.loss):
            raise TrainingFailed(
                f"the loss is no finite number in step {self.position.step} of epoch "
                f"{self.position.epoch + 1}: a lower learning rate may help"
            )

    def _end_epoch(self, progress: TrainingProgress | None) -> None:
        position = self.position
        loss = torch.tensor(position.loss / self.steps, device=self._group.device)
        row: dict[str, Any] = {
            "epoch": position.epoch + 1,
            "updates": self.updates,
            "learning_rate": self._optimizer.param_groups[0]["lr"],
            "train_loss": self._group.sum(loss).item() / self._group.size,
        }
        last = position.epoch + 1 == self.settings.recipe.epochs
        measured = self._validate() if last or self._validates == "each epoch" else {}
        for kind, result in measured.items():
            fields = dataclasses.asdict(result)
            row |= {f"{kind}_{name}": fields[name] for name in ("loss", "top1", "top5")}
        self.position = Position(position.epoch + 1, 0, 0.0, [*position.rows, row])
        self._save()
        if progress is not None:
            top1 = max((result.top1 for result in measured.values()), default=None)
            progress.epoch(self.position.epoch, row["train_loss"], top1)

    def _validate(self) -> dict[str, Measured]:
        """Measure the network, and its average if there is one, on the validation images."""
        networks = {"validation": self.model}
        if self.average is not None:
            networks["average"] = self.average.module
        for network in networks.values():
            self._group.share_buffers(network)
        images = self._validation
        if images is None:
            return {}
        return {
            kind: measure(
                network,
                measuring_batches(images, self._group, self._workers),
                self._group,
                self.settings.precision,
            )
            for kind, network in networks.items()
        }

    # --- checkpoints ------------------------------------------------------------------------------

    def _save(self) -> None:
        """Write log and checkpoint, if this process does."""
        if self.folder is None or not self._group.leads:
            return
        if self.position.rows:
            write_csv(self.folder / LOG, self.position.rows)
        average = None if self.average is None else self.average.module.state_dict()
        state = {
            "position": dataclasses.asdict(self.position),
            "model": self.model.state_dict(),
            "average": average,
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
        }
        write_file(self.folder / CHECKPOINT, lambda path: torch.save(state, path))

    def _resume(self) -> None:
        if self.folder is None or not (path := self.folder / CHECKPOINT).exists():
            return
        try:
            state = torch.load(path, map_location=self._group.device, weights_only=True)
            self.model.load_state_dict(state["model"])
            if self.average is not None:
                self.average.module.load_state_dict(state["average"])
            self._optimizer.load_state_dict(state["optimizer"])
            self._scaler.load_state_dict(state["scaler"])
            self.position = Position(**state["position"])
        except (EOFError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise ConfigError(
                f"{path} is unreadable: delete it to start again, or choose another --out; {reason}"
            ) from error


def write_weights(path: Path, network: nn.Module, settings: TrainingSettings) -> None:
    """Write weights as safetensors, with the network's configuration in the header."""
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    metadata = {"config": settings.model.to_json()}
    write_file(path, lambda partial: save_file(tensors, partial, metadata=metadata))


def write_file(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file, replacing the old one in one step; on failure that stays."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        write(partial)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _parallel(model: nn.Module, group: Group) -> nn.Module:
    if group.size == 1:
        return model
    return DistributedDataParallel(
        model, device_ids=[group.device.index] if group.device.type == "cuda" else None
    )


def _optimizer(
    model: nn.Module, recipe: Recipe, steps: int
) -> tuple[torch.optim.Optimizer, CosineLRScheduler]:
    """AdamW without decay of norms, biases and ``no_weight_decay``; the rate step by step."""
    factor = recipe.rate_factor
    optimizer: torch.optim.Optimizer = create_optimizer_v2(
        model,
        opt="adamw",
        lr=recipe.learning_rate * factor,
        weight_decay=recipe.weight_decay,
        betas=recipe.betas,
        eps=recipe.eps,
    )
    warm_up = recipe.warm_up * steps
    schedule = CosineLRScheduler(
        optimizer,
        t_initial=recipe.epochs * steps - warm_up,
        lr_min=recipe.final_rate * factor,
        warmup_t=warm_up,
        warmup_lr_init=recipe.warm_up_rate * factor,
        warmup_prefix=True,
        t_in_epochs=False,
    )
    return optimizer, schedule


def _loss(recipe: Recipe, classes: int) -> tuple[Mixup | None, nn.Module]:
    """Mixing of images, if there is any, and the loss."""
    mixup = None
    if recipe.mixes:
        mixup = Mixup(
            mixup_alpha=recipe.mixup,
            cutmix_alpha=recipe.cutmix,
            prob=recipe.mixup_share,
            switch_prob=recipe.cutmix_share,
            label_smoothing=recipe.label_smoothing,
            num_classes=classes,
        )
    if recipe.loss == "binary_cross_entropy":
        return mixup, BinaryCrossEntropy(smoothing=recipe.label_smoothing)
    if mixup is not None:
        return mixup, SoftTargetCrossEntropy()
    return None, nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
