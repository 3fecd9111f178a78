"""The page stands alone, says the numbers, and cannot be broken by what the records contain."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from plotly.offline import get_plotlyjs

from reports.charts import hover_texts
from reports.page import render_page
from reports.records import Run, load_run
from tests.reports import sample


class Reader(HTMLParser):
    """All tags with their attributes, the visible text, and the text of scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts.append(data)
        elif self._inside != "style":
            self.text += data


def without_library(page: str) -> str:
    library = get_plotlyjs()
    assert library in page
    return page.replace(library, "")


@pytest.fixture(scope="module")
def page(finished_run: Run) -> str:
    return without_library(render_page(finished_run, "runs/sepvit"))


def test_nothing_is_loaded_from_anywhere(page: str) -> None:
    reader = Reader(page)
    loading = {"src", "href", "srcset", "data", "poster", "action", "background"}
    assert not [tag for tag, attributes in reader.tags if loading & set(attributes)]
    assert not {"link", "iframe", "object", "embed", "base"} & {tag for tag, _ in reader.tags}
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|https?:", page)
    (policy,) = [a["content"] for _, a in reader.tags if a.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_the_answer_comes_first(page: str, finished_run: Run) -> None:
    text = " ".join(Reader(page).text.replace("\xa0", " ").split())
    front = [finalist for finalist in finished_run.finalists if finalist.on_front]
    assert f"{len(front)} best trade-offs in the sepvit space" in text
    best = max(front, key=lambda finalist: finalist.accuracy)
    interval = f"{best.accuracy:.3f} [{best.accuracy_low:.3f}, {best.accuracy_high:.3f}]"
    assert text.index(interval) < text.index("Trade-off accuracy against")
    assert (
        "57 of 1,234,567,890 variants measured (64 trials asked for, 3 failed, 4 infeasible)"
        in text
    )


def test_limits_of_the_proxy_are_stated(page: str) -> None:
    text = " ".join(Reader(page).text.split())
    assert "It is not ImageNet accuracy" in text
    assert "depth beyond six blocks" in text
    assert "Kendall's tau 0.61 (95 % interval 0.42 to 0.76)" in text
    assert "over 24 variants" in text


def test_the_page_says_how_to_rebuild_the_best(page: str, finished_run: Run) -> None:
    text = Reader(page).text
    front = [finalist for finalist in finished_run.finalists if finalist.on_front]
    number = max(front, key=lambda finalist: finalist.accuracy).number
    assert f'effvit.create_model(front[{number}]["config"])  # #{number}' in text
    assert f"python -m search.export runs/sepvit --trial {number} --format onnx" in text


def test_charts_are_data_with_readable_hover_texts(page: str) -> None:
    data = json.loads(Reader(page).scripts[0])
    assert {"accuracy_macs", "accuracy_latency_ms", "accuracy_params"} <= set(data["charts"])
    traces = {trace.get("name"): trace for trace in data["charts"]["accuracy_macs"]["data"]}
    hover = traces["finalist on the front"]["text"][0]
    assert re.search(r"width \S+ · \S+ · \S+ · \S+ \| depth", hover)
    assert "95" not in hover
    assert "{" not in hover  # never raw JSON
    assert any(traces["finalist on the front"]["error_y"]["array"])


def test_the_second_task_is_shown_beside_the_accuracy_and_explained(page: str) -> None:
    assert "Routing is no\n    part of the accuracy" in page
    assert '<button type="button">routing</button>' in page
    assert '<td class="number" data-value="0.99">' in page


def test_of_a_mean_of_tasks_each_is_shown_for_finalists_and_trials(tmp_path: Path) -> None:
    page = without_library(render_page(load_run(sample.on_tasks(tmp_path)), "runs/tasks"))
    assert "mean of the tasks cue, routing." in page
    assert "Routing is no" not in page
    for title, tables in (("cue", 2), ("routing", 2), ("texture", 0), ("localisation", 0)):
        assert page.count(f'<button type="button">{title}</button>') == tables
    for value in ("0.71", "0.75", "0.9"):
        assert f'<td class="number" data-value="{value}">' in page


def test_the_cue_task_alone_is_not_shown_twice(page: str) -> None:
    assert '<button type="button">cue</button>' not in page


def test_a_task_without_a_relation_has_no_word_of_it(tmp_path: Path) -> None:
    run = load_run(sample.on_images(tmp_path))
    page = without_library(render_page(run, "runs/birds"))
    reader = Reader(page)
    for word in ("relation", "recognition", "digits", "ImageNet", "outing"):
        assert word not in reader.text[reader.text.index("Trade-off") :].split("Settings")[0]
    assert "mean of 3 seeds" in hover_texts(run)[0]
    assert "one seed" in hover_texts(run)[1]
    chart = json.loads(reader.scripts[0])["charts"]["accuracy_macs"]
    label = chart["layout"]["yaxis"]["title"]["text"].replace("<br>", " ")
    assert label == html.escape(run.settings.proxy.accuracy)
    rows = re.findall(r"<tr[^>]*>.*?</tr>", page, re.DOTALL)
    tables = {len(re.findall(r"<t[hd][ >]", row)) for row in rows if "sepvit-0" in row}
    headers = {len(re.findall(r"<th[ >]", row)) for row in rows if "<button" in row}
    assert tables == headers


def test_what_the_records_contain_is_text_not_markup(tmp_path: Path) -> None:
    attack = "</script><script>alert(1)</script><b>&"
    proxy = sample.settings()["proxy"] | {"description": attack, "resolves": [attack]}
    rows = [
        sample.trial(0, published=attack, variant_id=attack, axis_window_representation=attack),
        sample.unmeasured(1, attack),
    ]
    changes = {"proxy": proxy, "command": attack, "space": attack, attack: {attack: attack}}
    run = load_run(sample.write_run(tmp_path, rows, changes=changes))
    reader = Reader(without_library(render_page(run, attack)))
    assert not [script for script in reader.scripts if "alert(1)</" in script]
    assert [tag for tag, _ in reader.tags].count("script") == 3
    assert "b" not in [tag for tag, _ in reader.tags]
    assert reader.text.count(attack) >= 6
    assert "<script" not in hover_texts(run)[0]


def test_a_run_with_a_supernet_says_how_that_ranks_in_it(tmp_path: Path) -> None:
    run = load_run(sample.on_supernet(tmp_path))
    text = " ".join(Reader(render_page(run, "runs/x")).text.split())
    # Of the three pairs of 0.5, 0.6, 0.7 against 0.6, 0.8, 0.7 two agree: tau is (2 - 1) / 3.
    assert "inherited accuracies rank 3 variants as training each alone does" in text
    assert "with Kendall's tau 0.33" in text


@pytest.mark.parametrize(
    ("rows", "title"),
    [
        ([], "nothing measured yet"),
        ([sample.unmeasured(0, "out of memory")], "nothing measured yet"),
        ([sample.trial(0)], "unfinished: 1 best so far"),
    ],
    ids=["empty", "all failed", "one trial"],
)
def test_unfinished_runs_have_a_page(
    rows: list[dict[str, object]], title: str, tmp_path: Path
) -> None:
    changes = {"proxy": sample.settings()["proxy"] | {"ranking": None}}
    run = load_run(sample.write_run(tmp_path, rows, changes=changes))
    text = " ".join(Reader(render_page(run, "runs/x")).text.split())
    assert title in text
    assert "Not measured for this space" in text
    assert "pareto.json" not in text  # not written yet
