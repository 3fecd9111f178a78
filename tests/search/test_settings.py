"""Settings: what a resumed run must share with its start."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, cast

import pytest

from effvit import ConfigError
from search.datasets import EMBEDDED, DataSettings
from search.proxy import FULL, SEARCH, ProxyRecipe
from search.quantities import Budgets
from search.settings import (
    EARLIER,
    SETTINGS,
    Calibration,
    RunSettings,
    as_begun,
    check_same_run,
    read_saved,
)
from tests.search.fakes import SCALE, run_settings

CALIBRATION = Calibration(reference_ms=12.5, scale=SCALE)


def saved_as(settings: RunSettings) -> dict[str, Any]:
    document = {
        "identity": settings.identity(),
        "calibration": dataclasses.asdict(CALIBRATION),
    }
    loaded: dict[str, Any] = json.loads(json.dumps(document))
    return loaded


def test_same_settings_give_back_the_calibration(tmp_path: Path) -> None:
    settings = run_settings()
    (tmp_path / SETTINGS).write_text(json.dumps(saved_as(settings)))
    saved = read_saved(tmp_path)
    assert saved is not None
    assert check_same_run(saved, settings, tmp_path) == CALIBRATION


@pytest.mark.parametrize(
    ("change", "name", "before", "after"),
    [
        ({"space": "other"}, "space", "'sepvit'", "'other'"),
        ({"data": DataSettings(source="torch/x")}, "data.source", "'digits'", "'torch/x'"),
        ({"data": DataSettings(classes=3)}, "data.classes", "None", "3"),
        ({"data_resolution": (64, 64)}, "data_resolution", "None", "[64, 64]"),
        ({"resolution": (96, 96)}, "resolution", "[224, 224]", "[96, 96]"),
        ({"seed": 7}, "seed", "0", "7"),
        ({"sampler": "tpe"}, "sampler", "'random'", "'tpe'"),
        ({"budgets": Budgets(max_macs=10**9)}, "budgets.max_macs", "None", "1000000000"),
        ({"device": "cuda"}, "device", "'cpu'", "'cuda'"),
        ({"threads": 3}, "threads", "1", "3"),
    ],
)
def test_a_difference_is_named(change: dict[str, Any], name: str, before: str, after: str) -> None:
    settings = run_settings()
    other = dataclasses.replace(settings, **change)
    with pytest.raises(ConfigError) as error:
        check_same_run(saved_as(settings), other, Path("runs/mine"))
    assert f"its {name} is {before}, not {after}" in str(error.value)
    assert "runs/mine" in str(error.value)


def test_another_processor_is_refused_with_what_to_do() -> None:
    settings = dataclasses.replace(run_settings(), processor="Swift 9")
    other = dataclasses.replace(settings, processor="Brisk 2")
    with pytest.raises(ConfigError, match=r"begun on Swift 9, and this is Brisk 2: .* go on there"):
        check_same_run(saved_as(settings), other, Path())


def test_a_folder_that_does_not_say_its_processor_is_taken() -> None:
    saved = saved_as(run_settings())
    del saved["identity"]["processor"]
    assert check_same_run(saved, run_settings(), Path()) == CALIBRATION


@pytest.mark.parametrize("name", EARLIER)
def test_folders_of_older_versions_were_begun_with_what_there_was(name: str) -> None:
    saved = saved_as(run_settings())
    del saved["identity"][name]
    assert check_same_run(saved, run_settings(), Path()) == CALIBRATION
    images = dataclasses.replace(run_settings(), data=DataSettings(source="torch/x"))
    with pytest.raises(ConfigError, match=r"its data\.source is 'digits', not 'torch/x'"):
        check_same_run(saved, images, Path())


@pytest.mark.parametrize("recipe", ["search_recipe", "final_recipe"])
def test_a_folder_of_an_older_version_goes_on_with_its_recipe(recipe: str) -> None:
    """What missed the relation was repeated with recognition weighing as much as later."""
    settings = dataclasses.replace(run_settings(), search_recipe=SEARCH, final_recipe=FULL)
    saved = saved_as(settings)
    del saved["identity"][recipe]["retry_recognition_weight"]
    message = rf"its {recipe}\.retry_recognition_weight is 1\.0, not 0\.2; choose another --out"
    with pytest.raises(ConfigError, match=message):
        check_same_run(saved, settings, Path())
    kept = saved["identity"][recipe]
    begun = as_begun(getattr(settings, recipe), kept)
    assert begun == dataclasses.replace(getattr(settings, recipe), retry_recognition_weight=1.0)
    going_on = dataclasses.replace(settings, **cast("dict[str, Any]", {recipe: begun}))
    assert check_same_run(saved, going_on, Path()) == CALIBRATION


def test_a_folder_does_not_go_on_with_other_tasks() -> None:
    """Not even one of an older version, whose accuracies were of the cue task."""
    settings = dataclasses.replace(run_settings(), tasks=("cue", "routing"))
    saved = saved_as(run_settings())
    for there in (True, False):
        if not there:
            del saved["identity"]["tasks"]
        with pytest.raises(ConfigError, match=r"its tasks is \['cue'\], not \['cue', 'routing'\]"):
            check_same_run(saved, settings, Path())


def test_how_further_tasks_are_trained_is_a_part_of_a_run_of_several() -> None:
    assert "further_recipe" not in run_settings().identity()
    settings = dataclasses.replace(run_settings(tasks=("cue", "routing")), search_recipe=SEARCH)
    assert settings.identity()["further_recipe"]["routing"]["steps"] == 100
    saved = saved_as(settings)
    saved["identity"]["further_recipe"]["routing"]["steps"] = 99
    with pytest.raises(ConfigError, match=r"further_recipe\.routing\.steps is 99, not 100"):
        check_same_run(saved, settings, Path())


def test_a_new_folder_and_one_of_this_version_have_the_recipe_of_this_version() -> None:
    assert as_begun(SEARCH, None) == as_begun(SEARCH, SEARCH.to_dict()) == SEARCH


def test_the_name_of_the_test_part_may_be_corrected_at_the_end() -> None:
    settings = dataclasses.replace(run_settings(), data=DataSettings(source="hfds/x"))
    named = DataSettings(source="hfds/x", test_part="test")
    other = dataclasses.replace(settings, data=named)
    assert check_same_run(saved_as(settings), other, Path()) == CALIBRATION


def test_the_embedded_task_is_not_a_folder_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run_settings().identity()
    (tmp_path / EMBEDDED).mkdir()
    monkeypatch.chdir(tmp_path)
    assert run_settings().identity() == before


def test_steps_of_the_proxy_and_batch_of_latency_are_part_of_the_identity() -> None:
    settings = run_settings()
    for change, name in [
        ({"search_recipe": ProxyRecipe(name="search", steps=9)}, "steps"),
        ({"final_recipe": ProxyRecipe(name="full", steps=9)}, "steps"),
        ({"latency": dataclasses.replace(settings.latency, batch=9)}, "batch"),
    ]:
        other = dataclasses.replace(settings, **change)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=name):
            check_same_run(saved_as(settings), other, Path())


def test_every_setting_is_free_or_part_of_the_identity() -> None:
    names = {field.name for field in dataclasses.fields(RunSettings)}
    assert set(run_settings().identity()) | set(RunSettings.FREE) == names


@pytest.mark.parametrize("name", RunSettings.FREE)
def test_what_is_free_may_differ(name: str) -> None:
    settings = run_settings()
    other = dataclasses.replace(settings, **{name: "x" if name == "storage" else 99})  # type: ignore[arg-type]
    assert check_same_run(saved_as(settings), other, Path()) == CALIBRATION


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    assert read_saved(tmp_path) is None


def test_a_study_without_its_settings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study.journal").write_text("")
    with pytest.raises(ConfigError, match=r"holds a study without settings\.json"):
        read_saved(tmp_path)


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"3",
        b"{}",
        b'{"identity": 3, "calibration": {}}',
        b'{"identity": {}, "calibration": 3}',
        b'{"identity": {}, "calibration": {"reference_ms": 1, "scale": {}}}',
        b'{"identity": {}, "calibration": {"reference_ms": 1, "scale": {"macs_low": 1}}}',
        json.dumps({"identity": {}, "calibration": {"scale": dataclasses.asdict(SCALE)}}).encode(),
        json.dumps(
            {
                "identity": {},
                "calibration": {"reference_ms": "x", "scale": dataclasses.asdict(SCALE)},
            }
        ).encode(),
    ],
)
def test_unreadable_settings_are_one_clear_error(tmp_path: Path, broken: bytes) -> None:
    (tmp_path / SETTINGS).write_bytes(broken)
    with pytest.raises(ConfigError, match=r"settings\.json is unreadable: restore it"):
        read_saved(tmp_path)
    assert (tmp_path / SETTINGS).read_bytes() == broken
