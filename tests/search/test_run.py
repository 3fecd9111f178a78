"""The command line of a run: every kind of bad input is one line, exit code 2, and no change."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import itertools
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from optuna.trial import TrialState
from rich.console import Console
from typer.testing import CliRunner, Result

from effvit import model_cost
from search import proxy
from search import run as command
from search.axis import AxisOptions, embedded_recipe
from search.datasets import DataSettings
from search.latency import Latency
from search.messages import announce_left_out
from search.proxy.tasks import TASKS
from search.quantities import Budgets
from search.run import app
from search.settings import EARLIER, EARLIER_RECIPE, SETTINGS, Proxy, RunSettings
from search.storage import JOURNAL, lock_folder, open_study
from search.supernet.supernet import Agreement, Supernet
from search.supernet.trainer import InheritingTrainer
from spaces import get_space
from spaces.counted import Numbers
from spaces.sepvit import SepViTSpace
from tests.search.fakes import SCALE, FakePool, run_settings
from tests.search.instant_runs import InstantMeter, InstantPool

Files = dict[str, str]


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def refused(*arguments: str) -> str:
    """Message of a command that must fail: one line on stderr, nothing on stdout."""
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert re.fullmatch(r"error: [^\n]+\n", result.stderr), result.stderr
    return result.stderr


def files(folder: Path) -> Files:
    """Digest of every file of a folder, apart from the lock."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


# --- options ------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [(), ("--steps", "4", "--final-steps", "4")])
@pytest.mark.parametrize("space", ["autoformer", "pit"])
def test_a_space_that_the_proxy_cannot_scale_is_refused(
    space: str, more: tuple[str, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    said = refused("--space", space, "--out", str(folder), *more)
    assert "the proxy scales families sepvit" in said
    assert f"got family '{space}'" in said
    assert not folder.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--space", "sepvitt"], "unknown space 'sepvitt'; did you mean 'sepvit'?"),
        (["--space", "x/../y"], "unknown space"),
        (["--sampler", "tpee"], "unknown sampler 'tpee'; did you mean 'tpe'?"),
        (
            ["--max-macs", "1.5Q"],
            "--max-macs must be a number with a unit of k, M, G, T, got '1.5Q'",
        ),
        (["--max-params", "five"], "--max-params must be a number with a unit"),
        (["--max-latency", "20"], "--max-latency must be a number with a unit of us, ms, s"),
        (["--max-macs", "0"], "--max-macs must be positive, got '0'"),
        (["--max-macs=-1G"], "--max-macs must be positive, got '-1G'"),
        (["--max-latency", "0ms"], "--max-latency must be positive"),
        (["--max-macs", ""], "--max-macs must be a number"),
        (["--resolution", "0"], "resolution sides must be 32 to 16384 pixels, got 0"),
        (["--resolution", "16"], "resolution sides must be 32 to 16384 pixels, got 16"),
        (["--resolution", "abc"], "resolution must be like 224 or 512x2048"),
        (["--resolution", "100000"], "(nearest valid: 16384)"),
        (["--resolution", "224x"], "resolution must be like"),
        (["--resolution", "-224"], "resolution sides must be"),
        (["--device", "gpu"], "device must be cpu, cuda or like cuda:0, got 'gpu'"),
        (["--device", "meta"], "device must be cpu, cuda"),
        (["--device", "cuda:99"], "device 'cuda:99' is not available here (nearest valid: cpu)"),
        (["--max-macs", "1k"], "meets the budgets: the smallest has"),
        (["--max-params", "10"], "meets the budgets: the smallest has"),
        (
            ["--proxy", "supernet", "--fidelities", "halving"],
            "--proxy supernet needs --fidelities full, got 'halving'",
        ),
        (
            ["--proxy", "supernet", "--tasks", "all"],
            "--proxy supernet needs --tasks cue or cue+routing, got 'all'",
        ),
        (
            ["--tasks", "cue+routing", "--fidelities", "halving"],
            "--fidelities halving needs --tasks cue, got 'cue+routing'",
        ),
        (
            ["--tasks", "cue+routin"],
            "did you mean 'cue+routing'? (known: all, auto, cue, cue+routing)",
        ),
    ],
)
def test_options_that_break_a_rule(tmp_path: Path, options: list[str], message: str) -> None:
    folder = tmp_path / "run"
    assert message in refused("--out", str(folder), *options)
    assert not folder.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_here(tmp_path: Path) -> None:
    message = "device 'cuda' is not available here (nearest valid: cpu)"
    assert message in refused("--out", str(tmp_path / "run"), "--device", "cuda")


@pytest.mark.parametrize(
    "option",
    ["--trials", "--workers", "--threads", "--batch", "--final-seeds", "--steps", "--final-steps"],
)
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many"])
def test_counts_that_are_no_positive_integers(tmp_path: Path, option: str, value: str) -> None:
    """These never come as far as our code: the option parser says them in its own words."""
    result = invoke("--out", str(tmp_path / "run"), option, value)
    assert result.exit_code == 2
    assert option in result.stderr
    assert not (tmp_path / "run").exists()


def test_images_that_do_not_fit_into_memory(tmp_path: Path) -> None:
    message = refused("--out", str(tmp_path), "--resolution", "224", "--batch", "10000000")
    assert "resolution 224x224 with batch 10000000 is too large for this machine" in message
    assert files(tmp_path) == {}


# --- folders ------------------------------------------------------------------------------------

SETTINGS_ONLY = ("--trials", "1", "--threads", "1", "--steps", "1", "--final-steps", "2")


def begun(
    folder: Path,
    unsaid: Iterable[str] = (),
    **changes: Any,  # noqa: ANN401 - fields of the settings
) -> RunSettings:
    """A folder as a run of these settings leaves it, without its trials.

    ``unsaid`` are fields that the version of its start did not know.
    """
    settings = run_settings(trials=1, sampler="tpe")
    settings = dataclasses.replace(
        settings,
        search_recipe=dataclasses.replace(proxy.SEARCH, steps=1),
        final_recipe=dataclasses.replace(proxy.FULL, steps=2),
        **changes,
    )
    calibration = {"reference_ms": 10.0, "scale": dataclasses.asdict(SCALE)}
    identity = settings.identity()
    for name in unsaid:
        place, _, field = name.rpartition(".")
        del (identity[place] if place else identity)[field]
    key = {"identity": identity, "calibration": calibration}
    (folder / SETTINGS).write_text(json.dumps(key))
    study, _ = open_study(folder, None, key)
    study.tell(study.ask(), state=TrialState.FAIL)
    return settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": "mobilevitv2"}, "its space is 'mobilevitv2', not 'sepvit'"),
        ({"seed": 4}, "its seed is 4, not 0"),
        ({"sampler": "nsga2"}, "its sampler is 'nsga2', not 'tpe'"),
        ({"budgets": Budgets(max_macs=5)}, "its budgets.max_macs is 5, not None"),
    ],
)
def test_folder_of_another_study(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    begun(tmp_path, **changes)
    before = files(tmp_path)
    said = refused("--out", str(tmp_path), "--sampler", "tpe", *SETTINGS_ONLY)
    assert f"{tmp_path} holds another study: {message}" in said
    assert files(tmp_path) == before


def test_a_folder_of_an_older_version_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes = itertools.product(("search_recipe", "final_recipe"), EARLIER_RECIPE)
    begun(tmp_path, unsaid=[*EARLIER, *map(".".join, recipes)])
    before = json.loads((tmp_path / SETTINGS).read_text())["identity"]
    for name, stand_in in (("LatencyMeter", InstantMeter), ("TrainingPool", InstantPool)):
        monkeypatch.setattr(command, name, stand_in)
    monkeypatch.setattr(command, "_report", lambda folder, console: None)
    result = invoke("--out", str(tmp_path), "--sampler", "tpe", *SETTINGS_ONLY)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("resuming sepvit")
    assert json.loads((tmp_path / SETTINGS).read_text())["identity"] == before


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '{"identity": {}}', "\x00"])
def test_folder_with_unreadable_settings(tmp_path: Path, text: str) -> None:
    begun(tmp_path)
    (tmp_path / SETTINGS).write_text(text)
    before = files(tmp_path)
    assert f"{SETTINGS} is unreadable" in refused("--out", str(tmp_path), *SETTINGS_ONLY)
    assert files(tmp_path) == before


def test_folder_without_its_settings(tmp_path: Path) -> None:
    begun(tmp_path)
    (tmp_path / SETTINGS).unlink()
    before = files(tmp_path)
    assert "holds a study without settings.json" in refused("--out", str(tmp_path), *SETTINGS_ONLY)
    assert files(tmp_path) == before


def test_folder_with_a_damaged_study(tmp_path: Path) -> None:
    begun(tmp_path)
    path = tmp_path / JOURNAL
    path.write_bytes(path.read_bytes().replace(b"{", b"", 1))
    before = files(tmp_path)
    message = refused("--out", str(tmp_path), *SETTINGS_ONLY)
    assert f"{JOURNAL} is damaged at line 1" in message
    assert files(tmp_path) == before


def test_folder_that_lost_its_study(tmp_path: Path) -> None:
    begun(tmp_path)
    (tmp_path / JOURNAL).unlink()
    (tmp_path / "trials.csv").write_text("number\n0\n")
    assert "its study is missing" in refused("--out", str(tmp_path), *SETTINGS_ONLY)


def test_folder_in_use(tmp_path: Path) -> None:
    with lock_folder(tmp_path):
        assert f"another run is using {tmp_path}" in refused("--out", str(tmp_path))


def test_file_instead_of_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    assert f"{path} is not a folder" in refused("--out", str(path))
    assert "ot a directory" in refused("--out", str(path / "below"))
    assert path.read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "Permission denied" in refused("--out", str(tmp_path))
    assert "Permission denied" in refused("--out", str(tmp_path / "run"))
    tmp_path.chmod(0o700)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no file system that refuses root")
def test_folder_that_cannot_be_made() -> None:
    assert "/proc/nothing" in refused("--out", "/proc/nothing/run")


# --- what a run writes down at its start --------------------------------------------------------


class Measured:
    """Stands in for a meter whose reference network takes 10 ms."""

    reference_ms = 10.0

    def measure(self, config: object) -> Latency:
        raise NotImplementedError


@pytest.mark.parametrize(
    "budgets",
    [
        Budgets(),
        Budgets(max_macs=10**9),
        Budgets(max_latency_ms=5.0),
        Budgets(max_latency_ms=1e-3),  # nothing meets it, which measuring will tell
        Budgets(max_macs=1),
    ],
)
def test_scale_puts_what_is_affordable_between_0_and_1(budgets: Budgets) -> None:
    settings = run_settings(budgets=budgets)
    space = get_space("sepvit")
    scale = command._scale(settings, space, Measured())  # type: ignore[arg-type]
    assert 0 < scale.macs_low < scale.macs_high
    assert 0 < scale.latency_low_ms < scale.latency_high_ms
    if budgets.max_latency_ms:
        assert scale.latency_high_ms == budgets.max_latency_ms
    if budgets == Budgets():
        for config in space.published().values():
            cost = model_cost(config)
            losses = scale.losses((0.5, cost.macs, 10.0))
            assert all(0 <= loss <= 1 for loss in losses)


def test_the_sample_is_drawn_once_for_budgets_and_scale() -> None:
    class Counting(SepViTSpace):
        drawn = 0

        def draw(self, rng: np.random.Generator, count: int) -> Numbers:
            self.drawn += 1
            return super().draw(rng, count)

    settings = run_settings(budgets=Budgets(max_macs=10**9))
    space = Counting(224)
    command._check_budgets(space, settings)
    command._scale(settings, space, Measured())  # type: ignore[arg-type]
    assert space.drawn == 1


@pytest.mark.parametrize(
    ("name", "resolution", "expected"),
    [
        ("sepvit", 224, ""),
        (
            "sepvit",
            256,
            (
                "not in the space at 256x256: sepvit_lite, sepvit_tiny, sepvit_small, sepvit_base "
                "(sepvit_lite: stage 2's windows must come from "
            ),
        ),
        (
            "efficientvit",
            224,
            (
                "not in the space at 224x224: efficientvit_l1, efficientvit_l2, efficientvit_l3 "
                "(efficientvit_l1: all blocks share one expand_ratio, got "
            ),
        ),
    ],
)
def test_published_variants_outside_the_space_are_named_in_one_line(
    name: str, resolution: int, expected: str
) -> None:
    space = get_space(name, resolution)
    said = io.StringIO()
    search = SimpleNamespace(published=space.published())
    announce_left_out(Console(file=said, soft_wrap=True), space, search)  # type: ignore[arg-type]
    assert said.getvalue().startswith(expected)
    assert said.getvalue().count("\n") == bool(expected)


def test_published_variants_over_the_budgets_are_named() -> None:
    said = io.StringIO()
    search = SimpleNamespace(published={})
    announce_left_out(Console(file=said), get_space("sepvit"), search)  # type: ignore[arg-type]
    assert said.getvalue().splitlines()[0] == "left out: sepvit_lite is over the budgets"


def test_accuracy_is_of_two_tasks_but_where_only_the_cue_task_goes_or_the_run_began_so() -> None:
    data = DataSettings()
    assert AxisOptions(data=data).chosen_tasks("sepvit") == ("cue", "routing")
    assert AxisOptions(data=data).chosen_tasks("mobilevitv2") == ("cue",)
    inheriting = AxisOptions(data=data, proxy=Proxy.SUPERNET)
    assert inheriting.chosen_tasks("sepvit") == ("cue", "routing")
    assert inheriting.chosen_tasks("mobilevitv2") == ("cue", "routing")
    assert AxisOptions(data=data, fidelities="halving").chosen_tasks("sepvit") == ("cue",)
    assert AxisOptions(data=data, fidelities="screening").chosen_tasks("sepvit") == (
        "cue",
        "routing",
    )
    assert AxisOptions(data=data, begun=("cue",)).chosen_tasks("sepvit") == ("cue",)
    assert AxisOptions(data=data, begun=("cue",), tasks="all").chosen_tasks("sepvit") == TASKS


def test_trainings_take_as_many_steps_as_the_family_needs_or_as_asked() -> None:
    for recipe in (proxy.SEARCH, proxy.FULL):
        assert embedded_recipe(recipe, "sepvit", None) == recipe
        longer = embedded_recipe(recipe, "mobilevitv2", None)
        assert longer.steps > recipe.steps
        assert longer == dataclasses.replace(recipe, steps=longer.steps)
        assert embedded_recipe(recipe, "mobilevitv2", 7).steps == 7


def test_a_supernet_takes_the_place_of_training_and_says_how_it_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def obtain(*_: object, **options: object) -> None:
        asked.append(options)

    monkeypatch.setattr(Supernet, "obtain", obtain)
    monkeypatch.setattr(command, "check", lambda *_: Agreement(0.5, 0.6, 10))
    limited = run_settings(budgets=Budgets(max_macs=2_000_000_000))
    settings = dataclasses.replace(limited, proxy="supernet")
    console = Console(file=io.StringIO(), width=200)
    pool = FakePool()
    trainer = command._inheriting(settings, SepViTSpace(), pool, tmp_path, console)
    assert isinstance(trainer, InheritingTrainer)
    assert asked[0]["max_macs"] == 2_000_000_000
    assert asked[0]["seed"] == settings.seed
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "10 variants agree with Kendall's tau 0.50" in " ".join(said.split())
    assert "The order of similar variants: Kendall's tau of inherited accuracies" in said


def test_help_names_every_sampler_and_default() -> None:
    text = " ".join(invoke("--help").stdout.split())
    for name in (
        "auto",
        "evolution",
        "tpe",
        "nsga2",
        "nsga3",
        "gp",
        "qmc",
        "random",
        "--final-steps",
        "--storage",
        "--tasks",
    ):
        assert name in text
