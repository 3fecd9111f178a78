"""``python -m search.run --space sepvit``: search a space, and write what was found."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
import typer
from rich.console import Console
from rich.markup import escape

from effvit import ConfigError, ModelConfig, model_cost, model_costs
from effvit.console import BAD_INPUT, one_line_errors, readable, stderr
from search.axis import Axis, AxisOptions, choose_axis
from search.data_proxy import ImageWork
from search.datasets import EMBEDDED, DataSettings
from search.datasets.settings import VALIDATION_SHARE
from search.document import command_line, document
from search.engine import Search
from search.environment import available_cores, checked_device, device_name
from search.fidelities import check_fidelities
from search.finalists import FinalRound, pareto_entries, select_finalists
from search.importance import importances
from search.latency import LatencyMeter, LatencyProtocol
from search.latency.source import (
    PREDICTED,
    LatencyMode,
    PredictingMeter,
    choose_source,
    copy_table,
    read_copy,
)
from search.latency.store import TableKey
from search.messages import announce, announce_left_out, print_front
from search.options import (
    BatchOption,
    DataResolutionOption,
    DeviceOption,
    EpochsOption,
    FidelitiesOption,
    FinalEpochsOption,
    FinalistsOption,
    FinalSeedsOption,
    FinalStepsOption,
    FolderOption,
    LatencyOption,
    MaxLatencyOption,
    MaxMacsOption,
    MaxParamsOption,
    ProxyOption,
    RecipeOption,
    ResolutionOption,
    SamplerOption,
    SeedOption,
    SpaceOption,
    StepsOption,
    StorageOption,
    TasksOption,
    ThreadsOption,
    TrialsOption,
    WorkersOption,
)
from search.progress import Progress
from search.proxy import ProxyRecipe
from search.proxy.tasks import CUE
from search.quantities import Budgets
from search.records import Scale, TrialRecord, write_csv, write_json, write_trials
from search.remeasure import FrontMeter, describe_errors
from search.samplers import quiet_optuna, within
from search.samplers.bulk import Known, Pool, draw_pool
from search.samplers.choice import AUTO, choose_sampler
from search.settings import (
    SETTINGS,
    Calibration,
    Proxy,
    RunSettings,
    as_begun,
    check_same_run,
    read_saved,
)
from search.storage import lock_folder, open_study
from search.supernet.statement import inheriting_statement
from search.supernet.supernet import FILE as SUPERNET_FILE
from search.supernet.supernet import Supernet
from search.supernet.trainer import InheritingTrainer, check, supernet_progress
from search.supernet.training import RECIPES, steps_of
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
)
from search.workers import AnyTrainer, Trainer, TrainingPool, WorkerPool
from spaces import get_space
from spaces.space import Space

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 + SIGINT."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

SCALE_SAMPLES = 2000
SCALE_MARGIN = 3.0
"""Latency bounds reach this factor beyond those of MACs at the reference's speed."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
@one_line_errors
def run(
    space: SpaceOption = "sepvit",
    trials: TrialsOption = 60,
    seed: SeedOption = 0,
    out: FolderOption = None,
    sampler: SamplerOption = AUTO,
    max_macs: MaxMacsOption = None,
    max_params: MaxParamsOption = None,
    max_latency: MaxLatencyOption = None,
    resolution: ResolutionOption = "224",
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    batch: BatchOption = 1,
    latency: LatencyOption = LatencyMode.AUTO,
    fidelities: FidelitiesOption = "full",
    by: ProxyOption = Proxy.TRAINING,
    tasks: TasksOption = AUTO,
    data: DataOption = EMBEDDED,
    data_root: DataRootOption = None,
    classes: ClassesOption = None,
    subset: SubsetOption = 1.0,
    validation: ValidationOption = VALIDATION_SHARE,
    train_part: TrainPartOption = None,
    validation_part: ValidationPartOption = None,
    test_part: TestPartOption = None,
    data_resolution: DataResolutionOption = None,
    recipe: RecipeOption = None,
    change: ChangeOption = None,
    epochs: EpochsOption = None,
    final_epochs: FinalEpochsOption = None,
    workers: WorkersOption = None,
    finalists: FinalistsOption = 5,
    final_seeds: FinalSeedsOption = 3,
    steps: StepsOption = None,
    final_steps: FinalStepsOption = None,
    storage: StorageOption = None,
) -> None:
    """Search for the best trade-offs of accuracy, MACs and latency on this machine.

    The same command on the same folder goes on where it stopped; more --trials extend a run.
    """
    searched = get_space(space, resolution)
    folder = out or Path("runs") / space
    saved = read_saved(folder)
    begun: dict[str, Any] = saved["identity"] if saved else {}
    check_fidelities(fidelities)
    if by is Proxy.SUPERNET and fidelities != "full":
        raise ConfigError(
            f"a supernet trains no variants: --proxy supernet needs --fidelities full, "
            f"got {fidelities!r}"
        )
    images = DataSettings(
        source=data,
        root=data_root,
        classes=classes,
        subset=subset,
        validation=validation,
        train_part=train_part,
        validation_part=validation_part,
        test_part=test_part,
    )
    options = AxisOptions(
        data=images,
        proxy=by,
        fidelities=fidelities,
        tasks=tasks,
        begun=tuple(begun.get("tasks", (CUE,))) if begun else None,
        steps=steps,
        final_steps=final_steps,
        resolution=data_resolution,
        recipe=recipe,
        changes=change or (),
        epochs=epochs,
        final_epochs=final_epochs,
    )
    axis = choose_axis(searched, options)
    chosen = choose_sampler(sampler, trials, axis.steps, begun or None)
    settings = RunSettings(
        space=space,
        resolution=searched.resolution,
        data=axis.data,
        data_resolution=axis.resolution,
        seed=seed,
        sampler=chosen.name,
        sampler_reason=chosen.reason,
        budgets=Budgets.parse(max_macs, max_params, max_latency),
        device=checked_device(device),
        threads=threads or available_cores(),
        latency=LatencyProtocol(batch=batch),
        search_recipe=as_begun(axis.search_recipe, begun.get("search_recipe")),
        final_recipe=as_begun(axis.final_recipe, begun.get("final_recipe")),
        trials=trials,
        workers=workers or available_cores(),
        finalists=finalists,
        final_seeds=final_seeds,
        storage=storage,
        fidelities=fidelities,
        processor=device_name(checked_device(device)),
        proxy=by.value,
        tasks=axis.tasks,
    )
    source = choose_source(latency, _table_key(settings), begun or None)
    settings = dataclasses.replace(settings, latency_source=source)
    try:
        _check_budgets(searched, settings)
        with lock_folder(folder):
            _run(settings, searched, axis, folder, Console(highlight=False, soft_wrap=True))
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise OSError(
            f"no room left in {folder} ({error.strerror}); the same command goes on from here "
            "when there is some"
        ) from error
    except KeyboardInterrupt:
        stderr().print("stopped; the same command goes on from here")
        raise typer.Exit(INTERRUPTED) from None


def _check_budgets(space: Space, settings: RunSettings) -> None:
    """Fail early where no variant can meet the closed-form budgets."""
    budgets = settings.budgets
    if budgets.max_macs is None and budgets.max_params is None:
        return
    smallest, drawn = _drawn(space, settings.seed)
    for pool in (Known([smallest]), drawn):
        if within(pool, budgets.max_macs, budgets.max_params).any():
            return
    cost = model_cost(smallest)
    raise ConfigError(
        f"no variant of {space.name} at {space.resolution} meets the budgets: the smallest has "
        f"{readable(cost.macs)} MACs and {readable(cost.params)} parameters"
    )


@functools.lru_cache(maxsize=1)  # asked for by the check of budgets and by the scale
def _drawn(space: Space, seed: int) -> tuple[ModelConfig, Pool]:
    """The smallest variant that a descent from a sample of the space finds, and the sample."""
    drawn = draw_pool(space, np.random.default_rng(seed), SCALE_SAMPLES)
    smallest = _smallest(drawn)
    while (nearer := _smallest(Known([smallest, *space.neighbours(smallest)]))) != smallest:
        smallest = nearer
    return smallest, drawn


def _smallest(pool: Pool) -> ModelConfig:
    return pool.config(int(np.lexsort((pool.costs.params, pool.costs.macs))[0]))


def _run(settings: RunSettings, space: Space, axis: Axis, folder: Path, console: Console) -> None:
    quiet_optuna()
    torch.set_num_threads(settings.threads)
    saved = read_saved(folder)
    calibration = check_same_run(saved, settings, folder) if saved else None
    meter = LatencyMeter(
        settings.latency,
        settings.resolution,
        settings.device,
        calibration.reference_ms if calibration else None,
    )
    if calibration is None:
        calibration = Calibration(meter.reference_ms, _scale(settings, space, meter))
    predicting = None
    if settings.latency_source == PREDICTED:
        if saved is None:
            copy_table(_table_key(settings), folder)
        predicting = PredictingMeter(read_copy(folder), meter, calibration.reference_ms)
    # Of a run that goes on, as it was written: an older version's says less.
    identity = settings.identity() if saved is None else saved["identity"]
    run_key = {"identity": identity, "calibration": dataclasses.asdict(calibration)}
    if saved is None:
        described = document(settings, space, axis.statement, calibration, predicting)
        write_json(folder / SETTINGS, {**described, **run_key})
    study, cut = open_study(folder, settings.storage, run_key)
    if saved is not None:
        write_json(
            folder / SETTINGS, {**saved, "trials": settings.trials, "command": command_line()}
        )
    if cut:
        console.print(f"cut {cut} bytes of an unfinished line off the study: the last stop's")
    announce(console, settings, space, axis, folder, resumed=saved is not None)
    if predicting is not None:
        console.print(predicting.describe())
    search = Search(settings, space, study, predicting or meter, folder)
    front_meter = FrontMeter(study, search.records, meter, settings.budgets.max_latency_ms)
    announce_left_out(console, space, search)
    _search_and_report(
        settings, space, search, study, front_meter, calibration.scale, folder, console
    )


def _search_and_report(
    settings: RunSettings,
    space: Space,
    search: Search,
    study: optuna.Study,
    front_meter: FrontMeter,
    scale: Scale,
    folder: Path,
    console: Console,
) -> None:
    def write() -> list[TrialRecord]:
        records = list(search.records.values())
        write_trials(folder / "trials.csv", records, scale)
        return records

    needed = search.finished < settings.trials
    with _trainers(settings, space, folder, console, needed=needed) as (trainer, pool):
        with Progress(console, scale, settings.trials, search.records.values()) as progress:

            def after_trial(record: TrialRecord) -> None:
                write()
                progress.trial(record)

            done = search.run(trainer, after_trial)
        if not done:
            console.print(
                f"no variant within the budgets is left after {search.finished} trials of "
                f"{settings.trials}"
            )
        front_meter.run(scale)
        if errors := describe_errors(search.records):
            console.print(errors)
        records = write()
        chosen = select_finalists(records, scale, settings.finalists)
        seeds = range(settings.seed + 1, settings.seed + 1 + settings.final_seeds)
        final = FinalRound(
            study, settings.final_recipe, seeds, settings.data.test_part, settings.tasks
        )
        trainings = len(chosen) * settings.final_seeds
        earlier = trainings - len(final.missing(chosen))
        with Progress(console, scale, trainings, title="finalists", done=earlier) as progress:
            final.run(chosen, pool, progress.step)
    for reason, count in final.failures(chosen).items():
        console.print(f"trainings of finalists that failed: {count} ({escape(reason)})")
    rows = final.rows(chosen, scale)
    write_csv(folder / "pareto.csv", rows)
    write_json(folder / "pareto.json", list(pareto_entries(rows)))
    write_csv(folder / "importance.csv", importances(study))
    print_front(console, settings, rows)
    _report(folder, console)


@contextlib.contextmanager
def _trainers(
    settings: RunSettings, space: Space, folder: Path, console: Console, *, needed: bool
) -> Iterator[tuple[AnyTrainer, AnyTrainer]]:
    """What trains trials, and what trains finalists; whether the former is needed is told."""
    if settings.data_resolution is not None:
        work = ImageWork(settings.data, settings.data_resolution)
        with WorkerPool(settings.workers, work) as images:
            yield images, images
        return
    with TrainingPool(settings.workers) as pool:
        if settings.proxy == Proxy.SUPERNET.value and needed:
            yield _inheriting(settings, space, pool, folder, console), pool
        else:
            yield pool, pool


def _inheriting(
    settings: RunSettings, space: Space, pool: Trainer, folder: Path, console: Console
) -> Trainer:
    """Train or load the run's supernet, and say how it ranks a sample that is trained as well."""
    limit, learned = settings.budgets.max_macs, RECIPES[settings.tasks]
    console.print(f"supernet: {folder / SUPERNET_FILE}, trained first if it is not there")
    console.print(inheriting_statement(settings.space, settings.tasks)["does_not_resolve"][0])
    with supernet_progress(console, steps_of(learned)) as after_step:
        supernet = Supernet.obtain(
            space,
            folder,
            recipe=learned,
            seed=settings.seed,
            max_macs=limit,
            threads=settings.threads,
            after_step=after_step,
        )
    recipe, seed = settings.search_recipe, settings.seed
    assert isinstance(recipe, ProxyRecipe), "a supernet learns the embedded task"
    found = check(supernet, space, pool, recipe, seed, folder, limit, settings.tasks)
    console.print(found.statement())
    return InheritingTrainer(supernet)


def _scale(settings: RunSettings, space: Space, meter: LatencyMeter) -> Scale:
    """Bounds of MACs from a sample of the space, of latency from the reference network's speed."""
    smallest, drawn = _drawn(space, settings.seed)
    others = model_costs([smallest, *space.published().values()])
    macs = np.concatenate([drawn.costs.macs, others.macs])
    low, high = float(macs.min()), float(settings.budgets.max_macs or macs.max())
    reference = model_cost(settings.latency.reference, settings.resolution).macs
    per_mac = meter.reference_ms / reference
    slowest = settings.budgets.max_latency_ms or float(macs.max()) * per_mac * SCALE_MARGIN
    return Scale(
        macs_low=low / 1.01,
        macs_high=max(high, 1.01 * low),
        latency_low_ms=min(low * per_mac, slowest) / SCALE_MARGIN,
        latency_high_ms=slowest,
    )


def _table_key(settings: RunSettings) -> TableKey:
    """What a table must be about to predict this run's latencies."""
    return TableKey.here(
        settings.space, settings.resolution, settings.device, settings.threads, settings.latency
    )


def _report(folder: Path, console: Console) -> None:
    """Draw the report in a process of its own: it reads the records and nothing else."""
    result = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", "reports.run", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        last = (result.stderr.strip() or "no message").splitlines()[-1]
        last = last.removeprefix("error: ")
        stderr().print(
            f"[bold red]error:[/] the report could not be drawn: {escape(last)}", soft_wrap=True
        )
        raise typer.Exit(BAD_INPUT)
    console.print(f"report: {escape(str(folder / 'report.html'))}")


if __name__ == "__main__":
    app()
