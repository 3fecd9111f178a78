"""``python -m search.train DIR --trial N`` or ``--model NAME``: train a variant in full."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.markup import escape

from effvit import ConfigError, ModelConfig, as_config
from effvit.config import parse_resolution, unknown_name
from effvit.console import one_line_errors, stderr
from search.datasets import EMBEDDED, DataSettings, ImageData, load_data
from search.datasets.settings import VALIDATION_SHARE
from search.environment import environment
from search.export import read_trial
from search.records import write_json
from search.settings import SETTINGS
from search.storage import lock_folder
from search.train.brief import as_trained
from search.train.final import RESULT, final_test, read_result
from search.train.options import (
    ChangeOption,
    ClassesOption,
    DataOption,
    DataRootOption,
    SubsetOption,
    TestPartOption,
    TrainPartOption,
    ValidationOption,
    ValidationPartOption,
    changed,
)
from search.train.processes import Group, own_cores, process_group
from search.train.progress import TrainingProgress
from search.train.recipe import RECIPES, SMALL, Recipe, named_recipe, recipe_for
from search.train.settings import (
    DTYPES,
    Precision,
    TrainingSettings,
    check_same_training,
)
from search.train.trainer import CHECKPOINT, LOG, WEIGHTS, Trainer, TrainingFailed

FAILED, INTERRUPTED = 1, 128 + signal.SIGINT
"""Exit codes: the loss is no number; Ctrl-C, as shells have it."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
@one_line_errors
def train(
    folder: Annotated[Path | None, typer.Argument(help="Folder of a run, with --trial.")] = None,
    trial: Annotated[int | None, typer.Option(min=0, help="Number of the trial.")] = None,
    model: Annotated[str | None, typer.Option(help="A published model, not a trial.")] = None,
    data: DataOption = EMBEDDED,
    data_root: DataRootOption = None,
    classes: ClassesOption = None,
    subset: SubsetOption = 1.0,
    validation: ValidationOption = VALIDATION_SHARE,
    train_part: TrainPartOption = None,
    validation_part: ValidationPartOption = None,
    test_part: TestPartOption = None,
    resolution: Annotated[
        str | None, typer.Option(help="Images, such as 224.", show_default="the network's design")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help=f"One of {', '.join(RECIPES)}.", show_default="by the network"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")] = None,
    change: ChangeOption = None,
    micro_batch: Annotated[
        int | None,
        typer.Option(min=1, help="Images that fit into memory at once.", show_default="all"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    device: Annotated[
        str | None, typer.Option(help="Torch device.", show_default="a GPU, if any")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="float32, bfloat16 or float16.", show_default="bfloat16 on a GPU"),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads, each process.", show_default="all cores")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that load images.")] = 0,
    save_minutes: Annotated[
        float, typer.Option(help="A checkpoint after so many minutes, and after each epoch.")
    ] = 10.0,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write.", show_default="DIR/train/VARIANT or runs/train-MODEL"),
    ] = None,
    final: Annotated[
        bool, typer.Option("--final-test", help="At the end, look at the test images, once.")
    ] = False,
) -> None:
    """Train a variant in full, with its paper's recipe; the same command goes on where it stopped.

    On several GPUs: torchrun --nproc-per-node 8 -m search.train ... A batch is that of all.
    """
    config, place = _chosen(folder, trial, model)
    source = DataSettings(
        source=data,
        root=data_root,
        classes=classes,
        subset=subset,
        validation=validation,
        train_part=train_part,
        validation_part=validation_part,
        test_part=test_part,
    )
    plan = _recipe(config, source, recipe, epochs, batch, change or [])
    torch.set_num_threads(threads or own_cores())
    target = out or place
    try:
        with process_group(device) as group, _locked(target, group):
            images = load_data(source)
            size = parse_resolution(resolution) if resolution else config.image_size
            settings = TrainingSettings(
                model=as_trained(config, plan, size, len(images.classes)),
                recipe=plan,
                data=source,
                seed=seed,
                precision=_precision(precision, group),
                micro_batch=micro_batch,
            )
            _run(settings, images, group, target, workers, 60 * save_minutes, final)
    except TrainingFailed as error:
        stderr().print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(FAILED) from error
    except KeyboardInterrupt:
        stderr().print("stopped; the same command goes on from the last checkpoint")
        raise typer.Exit(INTERRUPTED) from None


def _chosen(folder: Path | None, trial: int | None, model: str | None) -> tuple[ModelConfig, Path]:
    """The network, and the folder to write to unless another is given."""
    if model is not None and folder is None and trial is None:
        return as_config(model), Path("runs") / f"train-{model}"
    if model is None and folder is not None and trial is not None:
        config = read_trial(folder, trial)
        return config, folder / "train" / config.variant_id
    raise ConfigError("say what to train: DIR --trial N, or --model NAME")


def _recipe(
    config: ModelConfig,
    data: DataSettings,
    name: str | None,
    epochs: int | None,
    batch: int | None,
    changes: list[str],
) -> Recipe:
    """The recipe asked for: by name, else the family's; the embedded digits have their own."""
    if name is not None:
        chosen = named_recipe(name)
    else:
        chosen = SMALL if data.source == EMBEDDED else recipe_for(config)
    if epochs is not None:
        chosen = chosen.shortened(epochs)
    if batch is not None:
        chosen = dataclasses.replace(chosen, batch=batch)
    return changed(chosen, changes)


def _precision(name: str | None, group: Group) -> Precision:
    if name is None:
        return "bfloat16" if group.device.type == "cuda" else "float32"
    if name not in ("float32", *DTYPES):
        raise unknown_name("precision", name, ("float32", *DTYPES))
    return name  # type: ignore[return-value]  # just checked


@contextlib.contextmanager
def _locked(folder: Path, group: Group) -> Iterator[None]:
    """The first process holds the folder; the others wait until it does."""
    with lock_folder(folder) if group.leads else contextlib.nullcontext():
        group.wait()
        yield


def _run(
    settings: TrainingSettings,
    images: ImageData,
    group: Group,
    folder: Path,
    workers: int,
    save_seconds: float,
    final: bool,
) -> None:
    console = Console(highlight=False, soft_wrap=True, quiet=not group.leads)
    resumed = check_same_training(folder, settings)
    group.wait()  # all have looked before the first one writes
    if group.leads and not resumed:
        write_json(folder / SETTINGS, _document(settings, images, group))
    trainer = Trainer(settings, images, group, folder, workers=workers, save_seconds=save_seconds)
    _announce(console, settings, images, trainer, folder)
    if not (folder / WEIGHTS).exists() or trainer.position.epoch < settings.recipe.epochs:
        with TrainingProgress(
            console, settings.recipe.epochs, trainer.steps, trainer.updates
        ) as progress:
            trainer.run(progress)
    group.wait()
    if group.leads:
        last = trainer.position.rows[-1]
        write_json(folder / RESULT, {**read_result(folder), "last_epoch": last})
    group.wait()
    console.print(f"weights: {escape(str(folder / WEIGHTS))}, log: {escape(str(folder / LOG))}")
    if final:
        test = final_test(settings, folder, group, workers)
        console.print(
            f"test, looked at once: top-1 {test['top1']:.2%}, top-5 {test['top5']:.2%} "
            f"of {test['images']:,} images"
        )


def _announce(
    console: Console,
    settings: TrainingSettings,
    images: ImageData,
    trainer: Trainer,
    folder: Path,
) -> None:
    recipe = settings.recipe
    height, width = settings.model.image_size
    held = 0 if images.validation is None else len(images.validation)
    done = trainer.updates
    console.print(
        f"[bold]{'resuming' if done else 'training'} {settings.model.variant_id}[/] at "
        f"{height}x{width}, {len(images.classes)} classes: {len(images.train):,} images to train "
        f"on, {held:,} to validate"
    )
    console.print(
        f"recipe {recipe.name} ({recipe.source}): {recipe.epochs} epochs of {trainer.steps} steps "
        f"of {recipe.batch} images" + (f", {done} steps done" if done else "")
    )
    if recipe.left_out:
        console.print(f"not as there: {recipe.left_out}")
    console.print(f"writing to {escape(str(folder))}")


def _document(settings: TrainingSettings, images: ImageData, group: Group) -> dict[str, Any]:
    """Everything about a training, for ``settings.json``."""
    return {
        "workbench_version": importlib.metadata.version("effvit-workbench"),
        "command": shlex.join(["python", "-m", "search.train", *sys.argv[1:]]),
        "identity": settings.identity(),
        "variant_id": settings.model.variant_id,
        "classes": list(images.classes),
        "training_images": len(images.train),
        "validation_images": 0 if images.validation is None else len(images.validation),
        "processes": group.size,
        "files": {"checkpoint": CHECKPOINT, "log": LOG, "weights": WEIGHTS, "result": RESULT},
        "environment": environment(str(group.device)),
    }


if __name__ == "__main__":
    app()
