"""The supernet of an audit: trained on what an audit trains, or loaded, with its progress shown."""

from __future__ import annotations

from pathlib import Path

from experiments.audit.plan import MAX_MACS
from experiments.progress import progress_bar
from search.supernet.supernet import Supernet
from search.supernet.training import SupernetRecipe, steps_of
from spaces.space import Space


def obtain(space: Space, folder: Path, recipe: SupernetRecipe, seed: int) -> Supernet:
    """Train the supernet of a space, up to the MACs of an audit, or load it.

    Args:
        space: The space.
        folder: Where it is kept.
        recipe: How it is trained.
        seed: Of its training.
    """
    with progress_bar() as progress:
        bar = progress.add_task("training the supernet", total=steps_of(recipe))
        return Supernet.obtain(
            space,
            folder,
            recipe=recipe,
            seed=seed,
            max_macs=MAX_MACS.get(space.name),
            after_step=lambda done: progress.update(bar, completed=done),
        )
