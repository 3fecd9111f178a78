"""What every report says about the accuracy axis comes from the committed audit."""

import json
import re

import pytest

from search.proxy_statement import read_summary, statement
from spaces import list_spaces


def test_sentences_and_ranking_quote_the_summary() -> None:
    said = statement("sepvit")
    summary = read_summary()
    for sentence in (*said["resolves"], *said["does_not_resolve"]):
        assert sentence.endswith(".")
    noise = float(summary["mixing windows", "search", "accuracy, sd of one seed"]["value"])
    assert f"({noise:.3f})" in said["does_not_resolve"][0]
    row = summary["all", "search, mean of seeds", "tau to reference"]
    ranking = said["ranking"]
    assert ranking["kendall_tau"] == float(row["value"])
    assert ranking["low"] < ranking["kendall_tau"] < ranking["high"]
    assert ranking["variants"] >= 24


@pytest.mark.parametrize("space", [name for name in list_spaces() if name != "sepvit"])
def test_what_was_measured_for_sepvit_is_not_claimed_elsewhere(space: str) -> None:
    said = statement(space)
    assert said["ranking"] is None
    assert said["resolves"] == []
    assert "has not been measured" in said["does_not_resolve"][0]
    figures = re.findall(r"\d+\.\d+", json.dumps({**said, "description": ""}))
    assert figures == []
