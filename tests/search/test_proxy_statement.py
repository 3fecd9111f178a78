"""What every report says about the accuracy axis comes from the committed audit."""

from search.proxy_statement import read_summary, statement


def test_sentences_and_ranking_quote_the_summary() -> None:
    said = statement()
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
