"""What the accuracy axis of a search is: the embedded task, or a short training on a data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from effvit import ConfigError
from effvit.config import Resolution, parse_resolution
from search import proxy
from search.data_proxy import RESOLUTION, ImageTraining, image_training
from search.datasets import EMBEDDED, DataSettings
from search.fidelities import check_fidelities
from search.proxy.digits import CANVAS
from search.proxy.mean_statement import trained_statement
from search.proxy.scaling import family_steps
from search.proxy.tasks import AUTO, AXES, CUE, USUAL, axis_tasks, usual_axis
from search.proxy.transfer import work
from search.settings import Proxy
from search.supernet.inheriting import equivalent_steps
from search.supernet.statement import inheriting_statement
from search.supernet.training import RECIPES
from search.train.options import changed
from search.train.recipe import named_recipe
from search.workers import TrainingRecipe
from spaces.space import Space

PIXELS_A_STEP = proxy.SEARCH.batch * CANVAS * CANVAS
"""Of a step of the embedded task."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axis:
    """How accuracies come about.

    Attributes:
        data, resolution: As in :class:`search.settings.RunSettings`.
        search_recipe, final_recipe: How trials and finalists are trained.
        statement: What every report must say about it, as JSON values.
        steps: Steps of the embedded task that are about as much work as a trial.
        tasks: Those of the embedded ones that accuracy is the mean of.
        announcement: What is trained how, in a line; empty for the embedded task.
    """

    data: DataSettings
    resolution: Resolution | None
    search_recipe: TrainingRecipe
    final_recipe: TrainingRecipe
    statement: Mapping[str, Any]
    steps: int
    tasks: tuple[str, ...] = (CUE,)
    announcement: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AxisOptions:
    """What was asked for on the command line; None and () where nothing was.

    Attributes:
        data: The data set.
        proxy, fidelities: As in :class:`search.settings.RunSettings`.
        tasks: Name of an axis of embedded tasks, of :data:`search.proxy.tasks.AXES`, or ``auto``.
        begun: Tasks of the run that is resumed, which ``auto`` keeps; None for a new one.
        steps, final_steps: Of trainings on the embedded task.
        resolution: Of the images of another data set, such as ``64``.
        recipe: Name of its recipe.
        changes: Other fields of that, each as ``name=value``.
        epochs, final_epochs: Of trainings on it.
    """

    data: DataSettings
    proxy: Proxy = Proxy.TRAINING
    fidelities: str = "full"
    tasks: str = AUTO
    begun: tuple[str, ...] | None = None
    steps: int | None = None
    final_steps: int | None = None
    resolution: str | None = None
    recipe: str | None = None
    changes: Sequence[str] = ()
    epochs: int | None = None
    final_epochs: int | None = None

    def chosen_tasks(self, space: str) -> tuple[str, ...]:
        """What the accuracy of a search of a space on embedded tasks is the mean of.

        Raises:
            ConfigError: No such axis, or another option allows the cue task alone.
        """
        if self.tasks == AUTO and self.begun is not None:
            return self.begun
        possible, why = self._possible_axes()
        if self.tasks == AUTO:
            inherited = self.proxy is Proxy.SUPERNET  # routing then costs a variant next to nothing
            usual = USUAL if inherited else usual_axis(space)
            return AXES[usual if usual in possible else CUE]
        tasks = axis_tasks(self.tasks)
        if self.tasks not in possible:
            raise ConfigError(f"{why} needs --tasks {' or '.join(possible)}, got {self.tasks!r}")
        return tasks

    def _possible_axes(self) -> tuple[Sequence[str], str]:
        """Names of the axes that other options allow, and which of those rules out the rest."""
        if self.proxy is Proxy.SUPERNET:
            learned = [name for name, tasks in AXES.items() if tasks in RECIPES]
            return learned, "a supernet learns no other tasks: --proxy supernet"
        if any(check_fidelities(self.fidelities).rungs):
            return (CUE,), (
                "trainings that pause are compared by the cue task alone: "
                f"--fidelities {self.fidelities}"
            )
        return list(AXES), ""

    def of_embedded_task(self) -> dict[str, bool]:
        """Options that need the embedded task, and whether each was given."""
        return {
            "--proxy supernet": self.proxy is Proxy.SUPERNET,
            "--fidelities " + self.fidelities: any(check_fidelities(self.fidelities).rungs),
            "--tasks " + self.tasks: self.tasks != AUTO,
            "--steps": self.steps is not None,
            "--final-steps": self.final_steps is not None,
        }

    def of_data_sets(self) -> dict[str, bool]:
        """Options that need another data set, and whether each was given."""
        usual = DataSettings(source=self.data.source)
        names = {"root": "--data-root"}
        fields = [field.name for field in dataclasses.fields(usual)]
        given = {
            names.get(name, "--" + name.replace("_", "-")): getattr(self.data, name)
            != getattr(usual, name)
            for name in fields
        }
        return given | {
            "--data-resolution": self.resolution is not None,
            "--fidelities " + self.fidelities: bool(check_fidelities(self.fidelities).sides),
            "--recipe": self.recipe is not None,
            "--set": bool(self.changes),
            "--epochs": self.epochs is not None,
            "--final-epochs": self.final_epochs is not None,
        }


def choose_axis(space: Space, options: AxisOptions) -> Axis:
    """Settle how accuracies come about.

    Raises:
        ConfigError: Options do not go together, the embedded task has no rule for the space's
            family, or the data set is missing or broken.
    """
    if options.data.source == EMBEDDED:
        _refuse(options.of_data_sets(), "a data set: give --data")
        return _embedded(space, options)
    _refuse(
        options.of_embedded_task(),
        f"the embedded task, not --data {options.data.source} (nearest valid: leave it out)",
    )
    return _of_images(space, options)


def _refuse(given: Mapping[str, bool], needs: str) -> None:
    for option, there in given.items():
        if there:
            raise ConfigError(f"{option} needs {needs}")


def _embedded(space: Space, options: AxisOptions) -> Axis:
    family, tasks = space.unrank(0).family, options.chosen_tasks(space.name)
    search = embedded_recipe(proxy.SEARCH, family, options.steps)
    if options.proxy is Proxy.SUPERNET:
        statement, steps = inheriting_statement, equivalent_steps(len(tasks), search.batch)
    else:
        statement, steps = trained_statement, round(search.steps * work(search, tasks))
    return Axis(
        data=options.data,
        resolution=None,
        search_recipe=search,
        final_recipe=embedded_recipe(proxy.FULL, family, options.final_steps),
        statement=statement(space.name, tasks),
        steps=steps,
        tasks=tasks,
    )


def embedded_recipe(recipe: proxy.ProxyRecipe, family: str, steps: int | None) -> proxy.ProxyRecipe:
    """The recipe with so many steps, or as many as the family needs.

    Raises:
        ConfigError: The family has no rule for the embedded task.
    """
    needed = family_steps(family, recipe.steps)
    return dataclasses.replace(recipe, steps=steps or needed)


def _of_images(space: Space, options: AxisOptions) -> Axis:
    if any(change.startswith("epochs=") for change in options.changes):
        raise ConfigError("--set does not take epochs here: give --epochs and --final-epochs")
    training: ImageTraining = image_training(
        options.data,
        space.unrank(0),
        changed(named_recipe(options.recipe or "small"), options.changes),
        parse_resolution(options.resolution) if options.resolution else RESOLUTION,
        options.epochs,
        options.final_epochs,
        check_fidelities(options.fidelities),
    )
    height, width = training.resolution
    pixels = training.search_recipe.batch * height * width
    return Axis(
        data=options.data,
        resolution=training.resolution,
        search_recipe=training.search_recipe,
        final_recipe=training.final_recipe,
        statement=training.statement(),
        steps=max(1, round(training.steps * pixels / PIXELS_A_STEP)),
        announcement=training.describe(),
    )
