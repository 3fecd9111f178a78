"""Records are read exactly, and everything broken is one line that says where."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from reports.records import RecordError, load_run
from tests.reports import sample


def test_cells_become_typed_values(tmp_path: Path) -> None:
    rows = [sample.trial(3, latency_noisy=True), sample.unmeasured(4, "out of memory")]
    run = load_run(sample.write_run(tmp_path, rows))
    measured, failed = run.trials
    assert (measured.number, measured.macs, measured.latency_noisy) == (3, 1_000_000_000, True)
    assert measured.axes["width_1"] == "32"
    assert (failed.state, failed.reason, failed.relation_found) == ("failed", "out of memory", None)
    assert math.isnan(failed.accuracy)
    assert (run.finalists, run.importance, run.warnings) == ((), (), ())


def test_settings_keep_budgets_and_keys_of_a_later_version(tmp_path: Path) -> None:
    later = sample.settings()["latency"] | {"governor": "performance"}
    changes = {"latency": later, "colour": "blue"}
    settings = load_run(sample.write_run(tmp_path, [], changes=changes)).settings
    assert settings.budgets == {"macs": 8e9}
    assert settings.other["colour"] == "blue"
    assert settings.other["latency.governor"] == "performance"
    assert settings.other["seed"] == 0


def test_unknown_columns_are_kept(tmp_path: Path) -> None:
    header = [*sample.trial(0), "watts"]
    sample.write_run(tmp_path, [])
    sample.write_table(tmp_path / "trials.csv", [sample.trial(0, watts=11)], header)
    assert load_run(tmp_path).trials[0].extra == {"watts": "11"}


def test_columns_that_older_versions_lack_are_read_as_empty(tmp_path: Path) -> None:
    sample.write_run(tmp_path, [sample.trial(0)], [sample.finalist(0)])
    later = ("cue_accuracy", "routing", "localisation", "texture")
    header = [name for name in sample.finalist(0) if not name.startswith(later)]
    rows = [{name: sample.finalist(0)[name] for name in header}]
    sample.write_table(tmp_path / "pareto.csv", rows, header)
    (finalist,) = load_run(tmp_path).finalists
    assert math.isnan(finalist.routing)
    assert math.isnan(finalist.texture)
    assert finalist.test_accuracy == 0.84


def test_a_run_of_an_earlier_version_is_read_without_its_later_columns(tmp_path: Path) -> None:
    row = sample.trial(0, proxy_resolution="64x64")
    sample.write_run(tmp_path, [row])
    assert load_run(tmp_path).trials[0].proxy_resolution == "64x64"
    del row["proxy_resolution"]
    sample.write_table(tmp_path / "trials.csv", [row], list(row))
    assert load_run(tmp_path).trials[0].proxy_resolution == ""


def test_tables_without_rows_are_no_mistake(tmp_path: Path) -> None:
    sample.write_run(tmp_path, [])
    for name in ("trials.csv", "pareto.csv", "importance.csv"):
        (tmp_path / name).write_text("\n")  # as pandas writes them
    run = load_run(tmp_path)
    assert (run.trials, run.finalists, run.importance) == ((), (), ())


def test_what_a_supernet_gives_is_read_where_there_is_one(tmp_path: Path) -> None:
    first, *_, last = load_run(sample.on_supernet(tmp_path / "with")).inherited
    assert (first.inherited, first.alone, last.variant_id) == (0.5, 0.6, "v2")
    assert load_run(sample.write_run(tmp_path / "without", [sample.trial(0)])).inherited == ()


def test_a_last_trial_cut_short_is_left_out_with_a_warning(tmp_path: Path) -> None:
    sample.write_run(tmp_path, [sample.trial(0), sample.trial(1)])
    path = tmp_path / "trials.csv"
    path.write_text(path.read_text()[:-20])
    run = load_run(tmp_path)
    assert [trial.number for trial in run.trials] == [0]
    assert run.warnings == ("trials.csv: line 3 was cut short and is left out",)


def _cut(name: str, keep: float) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        text = (folder / name).read_text()
        (folder / name).write_text(text[: int(len(text) * keep)])

    return damage


def _set(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


def _swap(name: str, old: str, new: str) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return damage


def _change(**changes: object) -> Callable[[Path], object]:
    text = json.dumps(sample.settings() | changes)
    return _set("settings.json", text)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no settings": (lambda folder: (folder / "settings.json").unlink(), "settings.json is missing"),
    "no trials": (lambda folder: (folder / "trials.csv").unlink(), "trials.csv is missing"),
    "half of the settings": (_cut("settings.json", 0.5), "settings.json is not complete JSON"),
    "empty trials": (_set("trials.csv", ""), "trials.csv is empty"),
    "half a header": (_cut("trials.csv", 0.1), "cut short inside its header"),
    "cut finalists": (_cut("pareto.csv", 0.97), "pareto.csv is cut short"),
    "empty importance": (_set("importance.csv", ""), "importance.csv is empty"),
    "missing columns": (_swap("trials.csv", "macs,activations", "a,b"), "lacks the column(s) macs"),
    "missing axis": (_swap("trials.csv", "axis_window,", "window,"), "column(s) axis_window"),
    "extra cell": (_swap("trials.csv", "\n0,complete", "\n0,0,complete"), "line 2: expected"),
    "word for a number": (_swap("pareto.csv", ",1000000000,", ",many,"), "pareto.csv line 2: macs"),
    "negative": (_swap("pareto.csv", ",1000000000,", ",-1,"), "must not be negative, got '-1'"),
    "infinite": (_swap("pareto.csv", ",1000000000,", ",inf,"), "macs must be finite"),
    "share over 1": (_swap("pareto.csv", ",0.85,", ",85,"), "accuracy must be in 0 to 1, got '85'"),
    "unknown state": (_swap("trials.csv", "0,complete", "0,done"), "state must be one of complete"),
    "bad flag": (_swap("pareto.csv", "True", "maybe"), "on_front must be True or False"),
    "bad number": (_swap("trials.csv", "\n0,", "\nzero,"), "number must be a whole number"),
    "not text": (lambda folder: (folder / "trials.csv").write_bytes(b"\xff\xfe"), "not UTF-8"),
    "settings are a list": (_set("settings.json", "[]"), "the file must be an object"),
    "no proxy": (_change(proxy=None), "lacks the value proxy"),
    "text for a number": (_change(trials="sixty"), "trials must be a whole number, got 'sixty'"),
    "true for a number": (_change(trials=True), "trials must be a whole number, got True"),
    "one side": (_change(resolution=[224]), "resolution must be [height, width]"),
    "unknown objective": (_change(objectives={"joy": "maximize"}), "objective 'joy'"),
    "unknown direction": (_change(objectives={"macs": "down"}), "must be maximize or minimize"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_broken_records_are_one_clear_line(
    damage: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    importance = {("accuracy", "width_1"): 0.5}
    sample.write_run(tmp_path, [sample.trial(0)], [sample.finalist(0)], importance)
    load_run(tmp_path)  # whole before the damage
    damage(tmp_path)
    with pytest.raises(RecordError) as caught:
        load_run(tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"no folder .*nowhere"):
        load_run(tmp_path / "nowhere")


def test_interval_ends_may_leave_zero_to_one(tmp_path: Path) -> None:
    row = sample.finalist(0, accuracy=0.99, accuracy_low=-0.01, accuracy_high=1.02)
    finalist = load_run(sample.write_run(tmp_path, [], [row])).finalists[0]
    assert (finalist.accuracy_low, finalist.accuracy_high) == (-0.01, 1.02)
