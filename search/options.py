"""Options of ``python -m search.run``, in the groups in which its help shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from search.fidelities import FIDELITIES
from search.latency.source import LatencyMode
from search.proxy.tasks import AXES, CUE, USUAL, USUAL_IN
from search.samplers import SAMPLERS
from search.samplers.choice import AUTO
from search.settings import Proxy
from search.train.options import DATA_PANEL

SEARCH, LATENCY, ACCURACY, RUN = "What is searched", "Latency", "Accuracy", "The run"
"""Groups, beside that of data sets."""

SpaceOption = Annotated[str, typer.Option(help="Search space.", rich_help_panel=SEARCH)]
TrialsOption = Annotated[
    int, typer.Option(min=1, help="Variants to evaluate in all.", rich_help_panel=SEARCH)
]
SeedOption = Annotated[
    int, typer.Option(min=0, help="Seed of sampler and proxy.", rich_help_panel=SEARCH)
]
FolderOption = Annotated[
    Path | None,
    typer.Option(help="Folder of the run.", show_default="runs/SPACE", rich_help_panel=RUN),
]
SamplerOption = Annotated[
    str,
    typer.Option(
        help=f"{AUTO}, which chooses by trials and their cost, or one of: {', '.join(SAMPLERS)}.",
        rich_help_panel=SEARCH,
    ),
]
MaxMacsOption = Annotated[
    str | None, typer.Option(help="Budget, such as 1G.", rich_help_panel=SEARCH)
]
MaxParamsOption = Annotated[
    str | None, typer.Option(help="Budget, such as 5M.", rich_help_panel=SEARCH)
]
MaxLatencyOption = Annotated[
    str | None, typer.Option(help="Budget, such as 20ms.", rich_help_panel=SEARCH)
]
ResolutionOption = Annotated[
    str, typer.Option(help="Images, such as 224 or 512x2048.", rich_help_panel=SEARCH)
]
DeviceOption = Annotated[
    str, typer.Option(help="Torch device whose latency counts.", rich_help_panel=LATENCY)
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="CPU threads of latency.", show_default="all cores", rich_help_panel=LATENCY
    ),
]
BatchOption = Annotated[
    int, typer.Option(min=1, help="Images a call for latency.", rich_help_panel=LATENCY)
]
LatencyOption = Annotated[
    LatencyMode,
    typer.Option(
        help="Measure variants, or predict them by a table that python -m search.latency build "
        "made; auto predicts where there is one.",
        rich_help_panel=LATENCY,
    ),
]
FidelitiesOption = Annotated[
    str,
    typer.Option(
        help="How far variants are trained: "
        + "; ".join(f"{name}: {kind.purpose}" for name, kind in FIDELITIES.items())
        + ".",
        rich_help_panel=ACCURACY,
    ),
]
ProxyOption = Annotated[
    Proxy,
    typer.Option(
        "--proxy",
        help="What says how accurate variants are: a short training of each, or the weights "
        "of one supernet, which is trained first. Finalists are trained in any case.",
        rich_help_panel=ACCURACY,
    ),
]
TasksOption = Annotated[
    str,
    typer.Option(
        "--tasks",
        help=f"Embedded tasks that accuracy is the mean of: {', '.join(AXES)}; {AUTO} is {USUAL} "
        f"for {', '.join(USUAL_IN)} and with a supernet, which learns no other, else {CUE}, as "
        "with trainings that pause.",
        rich_help_panel=ACCURACY,
    ),
]
DataResolutionOption = Annotated[
    str | None,
    typer.Option(
        help="Of the images of --data, such as 64.",
        show_default="64",
        rich_help_panel=DATA_PANEL,
    ),
]
RecipeOption = Annotated[
    str | None,
    typer.Option(
        help="With --data, as search.train names recipes.",
        show_default="small",
        rich_help_panel=DATA_PANEL,
    ),
]
EpochsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="With --data, for each trial.",
        show_default="by its size",
        rich_help_panel=DATA_PANEL,
    ),
]
FinalEpochsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="With --data, for the finalists.",
        show_default="by its size",
        rich_help_panel=DATA_PANEL,
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Processes that train side by side.",
        show_default="all cores",
        rich_help_panel=RUN,
    ),
]
FinalistsOption = Annotated[
    int,
    typer.Option(
        min=0, help="Variants of the front trained again, longer.", rich_help_panel=ACCURACY
    ),
]
FinalSeedsOption = Annotated[
    int, typer.Option(min=1, help="Seeds of each finalist.", rich_help_panel=ACCURACY)
]
StepsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Training steps of the proxy for each trial.",
        show_default="by family",
        rich_help_panel=ACCURACY,
    ),
]
FinalStepsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Training steps of the proxy for the finalists.",
        show_default="by family",
        rich_help_panel=ACCURACY,
    ),
]
StorageOption = Annotated[
    str | None,
    typer.Option(
        help="Optuna storage URL.", show_default="a journal in the folder", rich_help_panel=RUN
    ),
]
