"""What every report says about the accuracy axis comes from the committed audit."""

import json
import re

import pytest

from search.proxy import statement as proxy_statement
from search.proxy.statement import (
    ALL,
    MIXING,
    TAU,
    read_summary,
    statement,
)
from spaces import list_spaces

AUDITED = [name for name in list_spaces() if read_summary(name)]
TRIAL = "short training, seed 0"


def rows(ceiling: float | None) -> tuple[dict[str, str], ...]:
    """A summary of space ``sepvit`` in which a trial's training has tau 0.5."""
    values = {
        (ALL, TRIAL, TAU): 0.5,
        (ALL, "parameters", TAU): 0.3,
        (ALL, "MACs", TAU): 0.2,
        (MIXING, "search", "relation found at once, share"): 0.97,
        (MIXING, "search", "accuracy, mean"): 0.81,
    }
    if ceiling is not None:
        values[ALL, "another training", TAU] = ceiling
    return tuple(
        {
            "space": "sepvit",
            "n": "41",
            **dict(zip(("group", "reading", "statistic"), key, strict=True)),
            "value": str(value),
            "low": str(value - 0.125),
            "high": str(value + 0.125),
        }
        for key, value in values.items()
    )


@pytest.fixture(params=[0.75, None], ids=["several seeds", "one seed"])
def ceiling(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float | None:
    monkeypatch.setattr(proxy_statement, "_rows", lambda: rows(request.param))
    return request.param  # type: ignore[no-any-return]


def test_sentences_and_ranking_quote_the_summary(ceiling: float | None) -> None:
    said = statement("sepvit")
    for sentence in (*said["resolves"], *said["does_not_resolve"]):
        assert sentence.endswith(".")
    assert "97%" in said["resolves"][0]
    assert "is 0.50 (95 % interval 0.38 to 0.62, 41 variants)" in said["does_not_resolve"][0]
    assert ("another longer training reaches 0.75" in said["does_not_resolve"][0]) == bool(ceiling)
    ranking = said["ranking"]
    assert (ranking["kendall_tau"], ranking["variants"]) == (0.5, 41)
    assert ranking["noise_ceiling"] == ceiling
    assert (ranking["parameters_tau"], ranking["macs_tau"]) == (0.3, 0.2)


@pytest.mark.usefixtures("ceiling")
@pytest.mark.parametrize("space", [name for name in list_spaces() if name != "sepvit"])
def test_what_was_measured_for_one_space_is_not_claimed_of_another(space: str) -> None:
    said = statement(space)
    assert said["ranking"] is None
    assert said["resolves"] == []
    assert "has not been measured" in said["does_not_resolve"][0]
    figures = re.findall(r"\d+\.\d+", json.dumps({**said, "description": ""}))
    assert figures == []


@pytest.mark.parametrize("space", list_spaces())
def test_statements_can_be_written_as_json(space: str) -> None:
    said = json.loads(json.dumps(statement(space)))
    assert (said["ranking"] is not None) == (space in AUDITED)
