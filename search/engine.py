"""The search itself: rounds of asking, measuring, training and telling, until the trials are done.

Each round asks the sampler for a few variants, measures their latency one by one while nothing else
runs, then trains them side by side in worker processes. The study is the only memory: a record of
each trial is an attribute of it, and all files are written from there.

A run that is cut off at any moment goes on as if it had not been: what the study holds open is
taken up again under its number, and its round is finished before the next one begins. Rounds are
blocks of the order in which trials are asked for, so that a resumed run asks with the same
knowledge.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, Trial, TrialState

from effvit import ModelConfig, model_cost, model_costs
from effvit.config import resolution_text
from effvit.cost import CostArrays
from search.fidelities import Ladder, Rung, check_fidelities
from search.latency import LatencyGuess, Meter
from search.latency.source import MEASURED, PREDICTED
from search.records import TrialRecord
from search.samplers import Setting, SpaceExhaustedError, sampler_kind, within
from search.samplers.bulk import Known, Pool
from search.samplers.history import CLAIM
from search.samplers.setting import Mask
from search.settings import KNOWN, RunSettings
from search.workers import (
    AnyOutcome,
    AnyTrainer,
    TrainingFailure,
    TrainingTask,
    TrialScores,
    WorkerDied,
    training_length,
    trial_scores,
)
from spaces.space import Space

RECORD = "record"
GUESS_MARGIN = 1.3
"""A variant is skipped unmeasured if its guessed latency exceeds the budget by this factor."""

STOPPED = "the run was stopped during this trial"

PAUSED = "paused"
"""Folder of trainings that wait at a rung."""


def read_records(study: optuna.Study) -> list[TrialRecord]:
    """Records of all trials that have one: a trial gets it as soon as its variant is known."""
    return [
        TrialRecord(**trial.user_attrs[RECORD])
        for trial in study.get_trials(deepcopy=False)
        if RECORD in trial.user_attrs
    ]


class Search:
    """A run of the search on an open study.

    Attributes:
        records: Records of the trials that have ended, by number.
        published: Published models within the closed-form budgets, by name.
    """

    def __init__(
        self,
        settings: RunSettings,
        space: Space,
        study: optuna.Study,
        meter: Meter,
        folder: Path | None = None,
    ) -> None:
        """Open a run.

        Args:
            settings: What defines it.
            space: Where variants come from.
            study: Its memory.
            meter: What measures latencies.
            folder: Where trainings that pause at a rung are kept; the current one if not given.
        """
        self._settings = settings
        kind = check_fidelities(settings.fidelities)
        paused = (folder or Path()) / PAUSED
        length = training_length(settings.search_recipe)
        self._ladder = Ladder(kind, length, paused, settings.data_resolution)
        self._space = space
        self._study = study
        self._meter = meter
        self._guess = LatencyGuess()
        self._open: dict[int, _OpenTrial] = {}
        self._begun = 0  # trials asked for, whatever has become of them
        self.records = {record.number: record for record in read_records(study)}
        self._names = {config.variant_id: name for name, config in space.published().items()}
        published = space.published()
        affordable = self._affordable(Known(list(published.values())))
        self.published = {
            name: config
            for (name, config), fits in zip(published.items(), affordable, strict=True)
            if fits
        }
        setting = Setting(space, self._affordable, settings.seed, KNOWN)
        self._sampler = sampler_kind(settings.sampler).make(setting)
        study.sampler = self._sampler
        self._recover()

    # --- where a stopped run left off -----------------------------------------------------------

    def _recover(self) -> None:
        """Take up what a stop left open; begin with the published models.

        Whatever a stop interrupts, this one included, the next start finds the same things to do.
        """
        trials = self._study.get_trials(deepcopy=False)
        running = [trial for trial in trials if trial.state is TrialState.RUNNING]
        waiting = [trial for trial in trials if trial.state is TrialState.WAITING]
        self._begun = len(trials) - len(waiting)
        for record in self.records.values():
            self._sampler.saw(record.model_config)
            if record.latency_ms is not None:
                self._guess.add(_features(model_costs([record.model_config]))[0], record.latency_ms)
        for trial in waiting:
            self._sampler.saw(self._queued(trial))
        for trial in running:
            self._take_up(trial)
        self._queue_missing(waiting)
        self._ladder.keep_only(self._opened())

    def _queued(self, trial: FrozenTrial) -> ModelConfig:
        return self._space.decode(trial.system_attrs["fixed_params"])

    def _take_up(self, trial: FrozenTrial) -> None:
        """Go on with a trial that a stop left open: where it was, or close it if it had ended."""
        # Optuna has no public door to a trial that another process began; this one is the oldest.
        handle = Trial(self._study, trial._trial_id)
        record = self.records.pop(trial.number, None)
        if record is not None:
            self._open[trial.number] = _OpenTrial(handle, record)
            if record.reason != STOPPED:
                self._finish(record)
            return
        if CLAIM in trial.system_attrs:  # proposed, but not all of it was written
            self._study._storage.set_trial_system_attr(
                trial._trial_id, "fixed_params", trial.system_attrs[CLAIM]["params"]
            )
            handle = Trial(self._study, trial._trial_id)
        try:
            self._begin(handle)
        except SpaceExhaustedError:
            self._study.tell(trial.number, state=TrialState.FAIL)

    def _queue_missing(self, waiting: Sequence[FrozenTrial]) -> None:
        """Queue published models, and what died with a worker, unless they are there already."""
        known = {self._queued(trial).variant_id for trial in waiting}
        known |= {record.variant_id for record in self.records.values() if _counts(record)}
        known |= {opened.record.variant_id for opened in self._open.values()}
        lost = [r.model_config for r in self.records.values() if not _counts(r)]
        for config in [*self.published.values(), *lost]:
            if config.variant_id not in known:
                known.add(config.variant_id)
                self._queue(config)

    def _queue(self, config: ModelConfig) -> None:
        self._study.enqueue_trial(self._space.encode(config))
        self._sampler.saw(config)

    # --- budgets --------------------------------------------------------------------------------

    def _affordable(self, pool: Pool) -> Mask:
        budgets = self._settings.budgets
        fits = within(pool, budgets.max_macs, budgets.max_params)
        if budgets.max_latency_ms is not None:
            guessed = self._guess.predict(_features(pool.costs))
            if guessed is not None:
                fits &= guessed <= GUESS_MARGIN * budgets.max_latency_ms
        return fits

    # --- rounds ---------------------------------------------------------------------------------

    @property
    def finished(self) -> int:
        """Trials that count: all that have ended and were not interrupted."""
        return sum(map(_counts, self.records.values()))

    def run(self, pool: AnyTrainer, after_trial: Callable[[TrialRecord], None]) -> bool:
        """Run rounds until the trials are done, or nothing is left to propose.

        Args:
            pool: Where variants are trained.
            after_trial: Called with the record of each trial that has ended.

        Returns:
            Whether the trials are done; if not, nothing was left to propose.
        """
        while self._open or self.finished < self._settings.trials:
            self._fill_round()
            if not self._open:
                break
            self._evaluate_round(pool, after_trial)
        self._ladder.keep_only(())
        return self.finished >= self._settings.trials

    @property
    def _round_size(self) -> int:
        """Enough for all workers, and for a bracket where variants compete."""
        return max(2 * self._settings.workers, self._ladder.bracket)

    def _fill_round(self) -> None:
        """Ask until the round is full; for fewer, or none, if no more variants are left."""
        size = self._round_size
        while self.finished + len(self._open) < self._settings.trials:
            if self._open and self._begun % size == 0:
                return
            try:
                self._begun += 1
                self._begin(self._study.ask())
            except SpaceExhaustedError:
                for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                    if trial.number not in self._open:  # the one that got no variant
                        self._study.tell(trial.number, state=TrialState.FAIL)
                return

    def _begin(self, trial: Trial) -> None:
        """Let a trial have its variant.

        Raises:
            SpaceExhaustedError: None is left.
        """
        config = self._space.suggest(trial)
        self._sampler.saw(config)
        record = _costed(config, trial.number)
        record.published = self._names.get(config.variant_id, "")
        record.choices = dict(next(iter(self._space.encodings(config))))
        others = self._opened()
        record.round = others[0].round if others else self._begun - 1
        record.started = dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")
        trial.set_user_attr(RECORD, record.to_dict())
        self._open[trial.number] = _OpenTrial(trial, record)

    def _evaluate_round(self, pool: AnyTrainer, after_trial: Callable[[TrialRecord], None]) -> None:
        """Evaluate the open trials, rung by rung."""
        for record in self._opened():
            self._measure_latency(record, after_trial)
        for rung in self._ladder.rungs:
            unmeasured = [r for r in self._opened() if rung.name not in r.rungs]
            if rung.steps:
                self._train(unmeasured, rung, pool, after_trial)
            else:
                self._note_costs(unmeasured)
            if opened := self._opened():
                for record in self._ladder.prune(rung, opened, self.records.values()):
                    self._finish(record)
                    after_trial(record)
        self._train(self._opened(), None, pool, after_trial)

    def _opened(self) -> list[TrialRecord]:
        return [self._open[number].record for number in sorted(self._open)]

    def _train(
        self,
        records: list[TrialRecord],
        rung: Rung | None,
        pool: AnyTrainer,
        after_trial: Callable[[TrialRecord], None],
    ) -> None:
        """Train open trials up to a rung, or to the end."""
        # The longest first, so that no worker ends the round with one long training.
        trained = sorted(records, key=lambda record: -(record.macs or 0))
        tasks = [self._task(record, rung) for record in trained]
        for index, outcome in pool.train(tasks):
            record = trained[index]
            if rung is None or isinstance(outcome, TrainingFailure):
                self._tell(record, outcome)
                after_trial(record)
            else:
                self._note(record, rung, trial_scores(outcome))

    def _task(self, record: TrialRecord, rung: Rung | None) -> TrainingTask:
        task = TrainingTask(
            record.model_config,
            self._settings.search_recipe,
            self._settings.seed,
            memory=self._ladder.file_of(record),
            tasks=self._settings.tasks,
        )
        if rung is None:
            return task
        if rung.resolution is None:
            return dataclasses.replace(task, rung=rung.steps)
        return dataclasses.replace(task, resolution=rung.resolution)

    def _note(self, record: TrialRecord, rung: Rung, result: TrialScores) -> None:
        """Keep what a rung measured."""
        record.rungs[rung.name] = result.accuracy
        _note_training(record, result)
        self._open[record.number].trial.set_user_attr(RECORD, record.to_dict())

    def _note_costs(self, records: list[TrialRecord]) -> None:
        """Keep that trials are at the rung before training, where nothing is measured."""
        for record in records:
            record.rungs["0"] = 0.0
            self._open[record.number].trial.set_user_attr(RECORD, record.to_dict())

    def _measure_latency(
        self, record: TrialRecord, after_trial: Callable[[TrialRecord], None]
    ) -> None:
        """Measure, unless that is done; close the trial if it does not go on to training."""
        if record.latency_ms is not None:
            return
        start = time.perf_counter()
        try:
            latency = self._meter.measure(record.model_config)
        except (MemoryError, RuntimeError) as error:
            record.state, record.reason = "failed", f"latency: {_first_line(error)}"
        else:
            record.latency_ms = latency.median_ms
            record.latency_low_ms, record.latency_high_ms = latency.low_ms, latency.high_ms
            record.latency_ratio, record.latency_noisy = latency.ratio, latency.noisy
            record.latency_source = PREDICTED if latency.predicted else MEASURED
            record.latency_predicted_ms = latency.median_ms if latency.predicted else None
            self._guess.add(_features(model_costs([record.model_config]))[0], latency.median_ms)
            limit = self._settings.budgets.max_latency_ms
            if limit is not None and latency.median_ms > limit:
                record.state = "infeasible"
                record.reason = f"latency {latency.median_ms:.1f} ms is over {limit:g} ms"
        record.seconds = time.perf_counter() - start
        if record.state in ("failed", "infeasible"):
            self._finish(record)
            after_trial(record)
            return
        # Kept before training, so that an interrupted trial still shows what was measured.
        self._open[record.number].trial.set_user_attr(RECORD, record.to_dict())

    def _tell(self, record: TrialRecord, outcome: AnyOutcome) -> None:
        if isinstance(outcome, WorkerDied) and not self._was_lost(record):
            record.reason = f"{outcome.reason}; proposed again"
            self._finish(record)
            self._queue(record.model_config)
            return
        if isinstance(outcome, TrainingFailure):
            record.state, record.reason = "failed", outcome.reason
        else:
            result = trial_scores(outcome)
            record.state, record.reason = "complete", ""
            record.accuracy, record.relation = result.accuracy, result.relation
            record.recognition, record.relation_found = result.recognition, result.relation_found
            record.cue_accuracy, record.routing = result.cue_accuracy, result.routing
            record.localisation, record.texture = result.localisation, result.texture
            record.proxy_attempts = result.attempts
            _note_training(record, result)
        self._finish(record)

    def _was_lost(self, record: TrialRecord) -> bool:
        """Whether an earlier trial of the same variant died with its worker."""
        return any(
            r.variant_id == record.variant_id and not _counts(r) for r in self.records.values()
        )

    def _finish(self, record: TrialRecord) -> None:
        """Write the record into the study, then close the trial.

        In this order, a stop between the two leaves an open trial, not one without its record.
        """
        opened = self._open.pop(record.number)
        opened.trial.set_user_attr(RECORD, record.to_dict())
        if record.values is None:
            pruned = record.state == "pruned"
            state = TrialState.PRUNED if pruned else TrialState.FAIL
            self._study.tell(record.number, state=state)
        else:
            self._study.tell(record.number, record.values)
        self.records[record.number] = record
        self._ladder.forget(record)


@dataclasses.dataclass(frozen=True)
class _OpenTrial:
    """A trial that has begun, and what is known of it so far."""

    trial: Trial
    record: TrialRecord


def _note_training(record: TrialRecord, result: TrialScores) -> None:
    """Keep how a trial was trained, and for how long."""
    size = result.resolution
    record.proxy_resolution = "" if size is None else resolution_text(size)
    record.proxy_steps, record.proxy_seed = result.steps, result.seed
    record.proxy_seconds = (record.proxy_seconds or 0.0) + result.seconds
    record.seconds = (record.seconds or 0.0) + result.seconds


def _counts(record: TrialRecord) -> bool:
    return record.state != "interrupted"


def _costed(config: ModelConfig, number: int) -> TrialRecord:
    cost = model_cost(config)
    return TrialRecord(
        number=number,
        reason=STOPPED,  # until it ends
        variant_id=config.variant_id,
        params=cost.params,
        macs=cost.macs,
        activations=cost.activations,
        peak_activation_mb=cost.peak_bytes() / 1e6,
        config=config.to_dict(),
    )


def _features(costs: CostArrays) -> NDArray[np.float64]:
    """What latency is guessed from, a row for each network; all of it is in closed form."""
    columns = (costs.macs, costs.activations, costs.params, costs.peak_elements)
    return np.column_stack(columns).astype(np.float64)


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
