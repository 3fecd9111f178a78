"""Smoothed accuracies: what the trials of a run say of each other. Finalists are chosen by them.

One short training says less of a variant than all trainings of a run together. The best of many
readings is moreover the luckiest one, which is what a front of raw readings collects.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search.records import TrialRecord
from search.surrogate import Encoder, smoothed
from spaces.space import Space


def smooth(records: Sequence[TrialRecord], space: Space) -> None:
    """Note the smoothed accuracy of every complete trial.

    A variant that has not found the relation keeps its own accuracy, and tells nothing of others:
    it is near chance, whatever it is like.

    Args:
        records: All trials; they are changed.
        space: Where their variants come from.
    """
    # By number: a run that was resumed holds its trials in another order, and sums would differ.
    complete = sorted((r for r in records if r.values is not None), key=lambda r: r.number)
    for record in complete:
        record.accuracy_smoothed = record.accuracy
    learned = [record for record in complete if record.relation_found is not False]
    if not learned:
        return
    rows = Encoder(space).rows([record.model_config for record in learned])
    accuracies = np.array([record.accuracy for record in learned], np.float64)
    for record, accuracy in zip(learned, smoothed(rows, accuracies), strict=True):
        record.accuracy_smoothed = min(max(float(accuracy), 0.0), 1.0)
