"""What reports say of accuracies that are inherited from a supernet."""

from __future__ import annotations

import json

import pytest

from search.axis import AxisOptions, choose_axis
from search.datasets import DataSettings
from search.proxy import SEARCH, mean_statement
from search.proxy import statement as proxy_statement
from search.proxy.statement import ALL, TAU
from search.proxy.tasks import AXES, CUE, USUAL
from search.settings import Proxy
from search.supernet.inheriting import CANVASES
from search.supernet.statement import INHERITED, NOT_MEASURED, inheriting_statement
from spaces import get_space

BOTH = AXES[USUAL]
ROW = {
    "space": "sepvit", "axis": USUAL, "variants": "41", "tau": "0.61", "low": "0.45",
    "high": "0.74", "ceiling": "0.58", "macs": "0.08", "supernet": "0.49", "supernet_low": "0.27",
    "supernet_high": "0.67",
}  # fmt: skip


def of_cue(reading: str, value: float) -> dict[str, str]:
    return {
        "space": "sepvit", "group": ALL, "reading": reading, "statistic": TAU, "n": "41",
        "value": str(value), "low": str(value - 0.125), "high": str(value + 0.125),
    }  # fmt: skip


def test_of_a_mean_of_tasks_it_quotes_the_task_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mean_statement, "_rows", lambda: (ROW,))
    said = inheriting_statement("sepvit", BOTH)
    assert json.loads(json.dumps(said)) == said
    ranking = said["ranking"]
    assert (ranking["kendall_tau"], ranking["low"], ranking["high"]) == (0.49, 0.27, 0.67)
    assert (ranking["variants"], ranking["noise_ceiling"]) == (41, 0.58)
    assert "weights inherited from a supernet" in ranking["reading"]
    assert "tau of inherited accuracies with the mean of several" in said["does_not_resolve"][0]
    assert "is 0.49 (95 % interval 0.27 to 0.67, 41 variants)" in said["does_not_resolve"][0]
    assert said["description"].endswith(INHERITED)
    assert "a trial's training" not in json.dumps(said)


def test_of_the_cue_task_it_quotes_the_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    trial, another = of_cue("short training, seed 0", 0.5), of_cue("another training", 0.75)
    found = [of_cue("search", 0.9) | {"statistic": name} for name in (
        "relation found at once, share", "accuracy, mean"
    )]  # fmt: skip
    known = (trial, another, of_cue("MACs", 0.2), of_cue("parameters", 0.3), *found)
    monkeypatch.setattr(proxy_statement, "_rows", lambda: known)
    assert inheriting_statement("sepvit", (CUE,))["ranking"] is None
    measured = (*known, of_cue("supernet, accuracy", 0.375))
    monkeypatch.setattr(proxy_statement, "_rows", lambda: measured)
    ranking = inheriting_statement("sepvit", (CUE,))["ranking"]
    assert (ranking["kendall_tau"], ranking["low"], ranking["high"]) == (0.375, 0.25, 0.5)


@pytest.mark.parametrize("row", [None, ROW | {"supernet": ""}], ids=["no audit", "no supernet"])
def test_nothing_is_claimed_of_a_supernet_that_was_not_audited(
    row: dict[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mean_statement, "_rows", lambda: (row,) if row else ())
    said = inheriting_statement("sepvit", BOTH)
    assert said["ranking"] is None
    assert said["does_not_resolve"][0] == NOT_MEASURED


def test_a_search_with_a_supernet_states_it() -> None:
    options = AxisOptions(data=DataSettings(), proxy=Proxy.SUPERNET)
    axis = choose_axis(get_space("sepvit"), options)
    assert axis.statement == inheriting_statement("sepvit", axis.tasks)
    assert INHERITED in axis.statement["description"]


def test_a_trial_that_inherits_costs_much_less_than_one_that_is_trained() -> None:
    """Samplers are chosen by what a trial costs."""
    trained, inherited = (
        choose_axis(get_space("sepvit"), AxisOptions(data=DataSettings(), proxy=source)).steps
        for source in (Proxy.TRAINING, Proxy.SUPERNET)
    )
    assert inherited == round(2 * CANVASES / (3 * SEARCH.batch))
    assert inherited <= trained / 15
