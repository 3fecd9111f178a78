"""The search itself: rounds of asking, measuring, training and telling, until the trials are done.

Each round asks the sampler for a few variants, measures their latency one by one while nothing else
runs, then trains them side by side in worker processes. The study is the only memory: a record of
each trial is an attribute of it, and all files are written from there, so a run that is cut off at
any moment goes on from what the study holds.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import Trial, TrialState

from effvit import ModelConfig, model_cost, model_costs
from search.latency import LatencyGuess, Meter
from search.latency.source import MEASURED, PREDICTED
from search.records import TrialRecord
from search.samplers import GuardedSampler, SpaceExhaustedError, sampler_kind, within
from search.settings import RunSettings
from search.workers import Outcome, Trainer, TrainingFailure, TrainingTask
from spaces.space import Space

RECORD = "record"
GUESS_MARGIN = 1.3
"""A variant is skipped unmeasured if its guessed latency exceeds the budget by this factor."""

STOPPED = "the run was stopped during this trial"


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
        records: Records of the trials, by number.
        published: Published models within the closed-form budgets, by name.
    """

    def __init__(
        self, settings: RunSettings, space: Space, study: optuna.Study, meter: Meter
    ) -> None:
        self._settings = settings
        self._space = space
        self._study = study
        self._meter = meter
        self._guess = LatencyGuess()
        self._open: dict[int, Trial] = {}
        self.records = {record.number: record for record in read_records(study)}
        self._names = {config.variant_id: name for name, config in space.published().items()}
        affordable = self._affordable(list(space.published().values()))
        self.published = {
            name: config
            for (name, config), fits in zip(space.published().items(), affordable, strict=True)
            if fits
        }
        self._sampler = GuardedSampler(
            sampler_kind(settings.sampler), space, self._affordable, settings.seed
        )
        study.sampler = self._sampler
        self._recover()

    # --- where a stopped run left off -----------------------------------------------------------

    def _recover(self) -> None:
        """Close what a stop left open, and queue what it cut off; begin with the published ones.

        Whatever a stop interrupts, this one included, the next start finds the same things to do.
        """
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            record = self.records.get(trial.number)
            self._close(trial.number, record.values if record else None)
        for record in self.records.values():
            if record.state != "interrupted":
                self._sampler.saw(record.model_config)
            if record.latency_ms is not None:
                self._guess.add(_features([record.model_config])[0], record.latency_ms)
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self._sampler.saw(self._space.decode(trial.system_attrs["fixed_params"]))
        cut_off = [r.model_config for r in self.records.values() if r.state == "interrupted"]
        for config in [*self.published.values(), *cut_off]:
            if not self._sampler.has_seen(config):
                self._study.enqueue_trial(self._space.encode(config))
                self._sampler.saw(config)

    def _close(self, number: int, values: Sequence[float] | None) -> None:
        if values is None:
            self._study.tell(number, state=TrialState.FAIL)
        else:
            self._study.tell(number, values)

    # --- budgets --------------------------------------------------------------------------------

    def _affordable(self, configs: Sequence[ModelConfig]) -> list[bool]:
        budgets = self._settings.budgets
        fits = within(configs, budgets.max_macs, budgets.max_params)
        if budgets.max_latency_ms is None or not configs:
            return fits
        guessed = self._guess.predict(_features(configs))
        if guessed is None:
            return fits
        near = guessed <= GUESS_MARGIN * budgets.max_latency_ms
        return [fit and bool(guess) for fit, guess in zip(fits, near, strict=True)]

    # --- rounds ---------------------------------------------------------------------------------

    @property
    def finished(self) -> int:
        """Trials that count: all that were not interrupted."""
        return sum(record.state != "interrupted" for record in self.records.values())

    def run(self, pool: Trainer, after_trial: Callable[[TrialRecord], None]) -> bool:
        """Run rounds until the trials are done, or nothing is left to propose.

        Args:
            pool: Where variants are trained.
            after_trial: Called with the record of each trial that has ended.

        Returns:
            Whether the trials are done; if not, nothing was left to propose.
        """
        while self.finished < self._settings.trials:
            size = min(2 * self._settings.workers, self._settings.trials - self.finished)
            asked = self._ask_round(size)
            if not asked:
                return False
            trained = [record for record in asked if self._measure_latency(record, after_trial)]
            # The longest first, so that no worker ends the round with one long training.
            trained.sort(key=lambda record: -(record.macs or 0))
            tasks = [self._task(record) for record in trained]
            for index, outcome in pool.train(tasks):
                self._tell(trained[index], outcome)
                after_trial(trained[index])
        return True

    def _ask_round(self, size: int) -> list[TrialRecord]:
        """Ask for so many variants; fewer, or none, if no more are left."""
        asked: list[TrialRecord] = []
        try:
            while len(asked) < size:
                asked.append(self._ask())
        except SpaceExhaustedError:
            for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                if trial.number not in self._open:  # the one that got no variant
                    self._close(trial.number, None)
        return asked

    def _task(self, record: TrialRecord) -> TrainingTask:
        settings = self._settings
        return TrainingTask(record.model_config, settings.search_recipe, settings.seed)

    def _ask(self) -> TrialRecord:
        trial = self._study.ask()
        config = self._space.suggest(trial)
        self._open[trial.number] = trial
        self._sampler.saw(config)
        record = _costed(config, trial.number)
        record.published = self._names.get(config.variant_id, "")
        record.choices = dict(next(iter(self._space.encodings(config))))
        record.started = dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")
        trial.set_user_attr(RECORD, record.to_dict())
        return record

    def _measure_latency(
        self, record: TrialRecord, after_trial: Callable[[TrialRecord], None]
    ) -> bool:
        """Measure; say whether the trial goes on to training."""
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
            self._guess.add(_features([record.model_config])[0], latency.median_ms)
            limit = self._settings.budgets.max_latency_ms
            if limit is not None and latency.median_ms > limit:
                record.state = "infeasible"
                record.reason = f"latency {latency.median_ms:.1f} ms is over {limit:g} ms"
        record.seconds = time.perf_counter() - start
        if record.state in ("failed", "infeasible"):
            self._finish(record)
            after_trial(record)
            return False
        # Kept before training, so that an interrupted trial still shows what was measured.
        self._open[record.number].set_user_attr(RECORD, record.to_dict())
        return True

    def _tell(self, record: TrialRecord, outcome: Outcome) -> None:
        if isinstance(outcome, TrainingFailure):
            record.state, record.reason = "failed", outcome.reason
        else:
            result = outcome.validation
            record.state, record.reason = "complete", ""
            record.accuracy, record.relation = result.accuracy, result.relation
            record.recognition, record.relation_found = result.recognition, result.relation_found
            record.proxy_steps, record.proxy_seed = result.steps, result.seed
            record.proxy_attempts, record.proxy_seconds = result.attempts, result.seconds
            record.seconds = (record.seconds or 0.0) + result.seconds
        self._finish(record)

    def _finish(self, record: TrialRecord) -> None:
        """Write the record into the study, then close the trial.

        In this order, a stop between the two leaves an open trial, not one without its record.
        """
        trial = self._open.pop(record.number)
        trial.set_user_attr(RECORD, record.to_dict())
        self._close(record.number, record.values)
        self.records[record.number] = record


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


def _features(configs: Sequence[ModelConfig]) -> NDArray[np.float64]:
    """What latency is guessed from, a row for each configuration; all of it is in closed form."""
    costs = model_costs(configs)
    columns = (costs.macs, costs.activations, costs.params, costs.peak_elements)
    return np.column_stack(columns).astype(np.float64)


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
