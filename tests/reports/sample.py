"""Made-up records of a run, plausible enough to look at, and small enough to break by hand."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

AXES: dict[str, tuple[str, list[Any]]] = {
    "width_1": ("Channels of stage 1", [32, 48, 64, 96, 128]),
    "width_2": ("Channels of stage 2, as a multiple of stage 1", [1.5, 2]),
    "width_3": ("Channels of stage 3, as a multiple of stage 2", [1.5, 2]),
    "width_4": ("Channels of stage 4, as a multiple of stage 3", [1.5, 2]),
    "depth_1": ("Blocks of stage 1", [1, 2]),
    "depth_2": ("Blocks of stage 2", [1, 2, 3]),
    "depth_3": ("Blocks of stage 3", [2, 4, 6, 10, 14]),
    "depth_4": ("Blocks of stage 4", [1, 2, 3]),
    "head_width": ("Channels of one attention head", [16, 32]),
    "mlp_ratio": ("Hidden width of the MLP over its input", [2, 3, 4]),
    "window": ("Side of a window in pixels", [7, 14]),
    "window_representation": ("How a window speaks to the others", ["learned", "average", "none"]),
    "attention_pattern": ("Which blocks attend over groups of windows", ["dssa", "dssa+gsa"]),
}

PUBLISHED = ("sepvit_lite", "sepvit_tiny", "sepvit_small", "sepvit_base")


def settings() -> dict[str, Any]:
    """Settings of a finished run."""
    return {
        "workbench_version": "0.1.0",
        "command": "python -m search.run --space sepvit --max-macs 8G",
        "space": "sepvit",
        "space_size": 1_234_567_890,
        "resolution": [224, 224],
        "trials": 64,
        "seed": 0,
        "sampler": "tpe",
        "budgets": {"max_macs": 8_000_000_000, "max_params": None, "max_latency_ms": None},
        "objectives": {"accuracy": "maximize", "macs": "minimize", "latency_ms": "minimize"},
        "axes": [
            {"name": name, "description": text, "values": values}
            for name, (text, values) in AXES.items()
        ],
        "proxy": {
            "name": "digits with a remote cue",
            "description": "A dense task on 8x8 handwritten digits: the label of each pixel depends"
            " on a cue in another window, so a network must carry information between windows.",
            "search_recipe": {"steps": 300, "batch": 32, "seeds": 1},
            "final_recipe": {"steps": 900, "batch": 32, "seeds": 3},
            "resolves": ["whether windows exchange information", "width of the early stages"],
            "does_not_resolve": ["depth beyond six blocks", "ImageNet accuracy"],
            "ranking": {
                "kendall_tau": 0.61,
                "low": 0.42,
                "high": 0.76,
                "variants": 24,
                "source": "docs/proxy_audit.md",
            },
        },
        "latency": {
            "backend": "pytorch eager",
            "device": "AMD EPYC 7B13",
            "threads": 2,
            "batch": 1,
            "protocol": "Five warm-up passes, then 21 passes, each beside one of the reference.",
            "reference_network": "sepvit_lite",
            "reference_ms": 25.1,
        },
        "environment": {
            "date": "2026-11-21T18:00:00+00:00",
            "python": "3.11.7",
            "torch": "2.15.0",
            "cores": 2,
        },
    }


def trial(number: int, **changes: object) -> dict[str, object]:
    """A complete trial with round numbers: 1 G MACs, 5 M parameters, 20 ms, accuracy 0.8."""
    row: dict[str, object] = {
        "number": number, "state": "complete", "reason": "", "published": "",
        "variant_id": f"sepvit-{number:012x}", "params": 5_000_000, "macs": 1_000_000_000,
        "activations": 9_000_000, "peak_activation_mb": 12.5, "latency_ms": 20.0,
        "latency_low_ms": 19.0, "latency_high_ms": 22.0, "latency_ratio": 0.8,
        "latency_noisy": False, "latency_source": "measured", "latency_predicted_ms": "",
        "accuracy": 0.8, "cue_accuracy": 0.8, "routing": "", "localisation": "", "texture": "",
        "relation": 0.7, "recognition": 0.9,
        "relation_found": True, "proxy_resolution": "", "proxy_steps": 300, "proxy_seed": 0,
        "proxy_attempts": 1, "proxy_seconds": 9.5, "hypervolume": 0.5, "front_size": 1,
        "started": "2026-11-21T18:00:00+00:00", "seconds": 12.0,
    }  # fmt: skip
    row |= {f"axis_{name}": values[0] for name, (_, values) in AXES.items()}
    row["config"] = json.dumps({"family": "sepvit", "widths": [32, 64, 128, 256]})
    return row | changes


def finalist(number: int, **changes: object) -> dict[str, object]:
    """A finalist on the front with the costs of :func:`trial` and accuracy 0.85 +- 0.01."""
    row: dict[str, object] = {
        "number": number, "published": "", "variant_id": f"sepvit-{number:012x}",
        "params": 5_000_000, "macs": 1_000_000_000, "latency_ms": 20.0, "latency_low_ms": 19.0,
        "latency_high_ms": 22.0, "latency_source": "measured", "latency_predicted_ms": "",
        "accuracy": 0.85, "accuracy_sd": 0.008, "accuracy_low": 0.84,
        "accuracy_high": 0.86, "relation": 0.75, "relation_sd": 0.01, "recognition": 0.95,
        "recognition_sd": 0.004, "cue_accuracy": 0.85, "cue_accuracy_sd": 0.008, "routing": 0.99,
        "routing_sd": 0.002, "localisation": "", "localisation_sd": "", "texture": "",
        "texture_sd": "", "seeds": 3, "found": 3,
        "test_accuracy": 0.84,
        "test_accuracy_sd": 0.01, "on_front": True,
        "config": json.dumps({"family": "sepvit", "widths": [32, 64, 128, 256]}),
    }  # fmt: skip
    return row | changes


RELATION = (
    "relation",
    "relation_sd",
    "recognition",
    "recognition_sd",
    "cue_accuracy",
    "cue_accuracy_sd",
    "routing",
    "routing_sd",
    "relation_found",
    "found",
)
"""Columns that a task without a relation leaves empty."""


def on_tasks(folder: Path) -> Path:
    """Write a finished run whose accuracies are the mean of two tasks."""
    proxy = settings()["proxy"] | {"tasks": ["cue", "routing"]}
    rows = [trial(0, cue_accuracy=0.75, routing=0.85), trial(1, cue_accuracy=0.7, routing=0.9)]
    return write_run(folder, rows, [finalist(0, cue_accuracy=0.71)], changes={"proxy": proxy})


def on_images(folder: Path) -> Path:
    """Write a finished run whose accuracies are of a data set, not of the embedded task."""
    accuracy = "accuracy on validation images of <b>birds</b> after 2 epochs (finalists: 6)"
    proxy = settings()["proxy"] | {"name": "birds", "description": "", "accuracy": accuracy}
    proxy |= {"resolves": [], "does_not_resolve": ["ranks"], "ranking": None}
    empty = dict.fromkeys(RELATION, "")
    rows = [
        {name: empty.get(name, value) for name, value in row.items()}
        for row in (trial(0), trial(1, accuracy=0.7), finalist(0))
    ]
    return write_run(folder, rows[:2], rows[2:], changes={"proxy": proxy})


def on_supernet(folder: Path) -> Path:
    """Write an unfinished run whose trials inherit the weights of a supernet."""
    rows = [
        {"variant_id": f"v{number}", "inherited": inherited, "alone": alone}
        for number, (inherited, alone) in enumerate(((0.5, 0.6), (0.6, 0.8), (0.7, 0.7)))
    ]
    write_run(folder, [trial(0)])
    write_table(folder / "supernet_check.csv", rows, list(rows[0]))
    return folder


def unmeasured(number: int, reason: str, state: str = "failed") -> dict[str, object]:
    """A trial that did not complete: its cost is known, nothing else."""
    row = trial(number, state=state, reason=reason)
    kept = {"number", "state", "reason", "variant_id", "params", "macs", "started", "config"}
    axes = {name for name in row if name.startswith("axis_")}
    return {name: value if name in kept | axes else "" for name, value in row.items()}


def write_table(path: Path, rows: Sequence[Mapping[str, object]], header: Sequence[str]) -> None:
    """Write rows as the search writes them."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, header, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_run(
    folder: Path,
    trials: Sequence[Mapping[str, object]],
    finalists: Sequence[Mapping[str, object]] | None = None,
    importance: Mapping[tuple[str, str], float] | None = None,
    changes: Mapping[str, object] | None = None,
) -> Path:
    """Write a run's records; without finalists or importance it is unfinished."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.json").write_text(json.dumps(settings() | dict(changes or {})), "utf-8")
    write_table(folder / "trials.csv", trials, list(trial(0)))
    if finalists is not None:
        write_table(folder / "pareto.csv", finalists, list(finalist(0)))
    if importance is not None:
        rows = [
            {"objective": objective, "axis": axis, "importance": share}
            for (objective, axis), share in importance.items()
        ]
        write_table(folder / "importance.csv", rows, ["objective", "axis", "importance"])
    return folder


def plausible_run(folder: Path, count: int = 64, seed: int = 0) -> Path:
    """Write a finished run: four published variants, ``count - 4`` random ones, nine finalists."""
    rng = random.Random(seed)
    rows: list[dict[str, object]] = []
    for number in range(count):
        published = PUBLISHED[number] if number < 4 else ""
        macs = (
            (0.57e9, 4.52e9, 7.46e9, 13.05e9)[number] if published else 10 ** rng.uniform(8.3, 10)
        )
        if macs > 8e9:
            name = f"{macs / 1e9:.2f} G MACs are over the budget of 8 G"
            rows.append(
                unmeasured(number, name, "infeasible") | {"macs": int(macs), "published": published}
            )
        elif number % 17 == 16:
            rows.append(unmeasured(number, f"out of memory at step {number}"))
        else:
            volume = 0.75 - 0.5 * 0.94**number
            rows.append(_random_trial(rng, number, published, macs, volume))
    best = sorted(
        (row for row in rows if row["state"] == "complete"),
        key=lambda row: -float(str(row["accuracy"])) + 0.04 * float(str(row["macs"])) ** 0.1,
    )[:7]
    chosen = best + [row for row in rows if row["published"] and row["state"] == "complete"]
    finalists = [
        _random_finalist(rng, row) for row in {str(r["number"]): r for r in chosen}.values()
    ]
    _mark_front(finalists)
    importance = {
        (objective, axis): rng.random() ** 3
        for objective in ("accuracy", "macs", "latency_ms")
        for axis in AXES
    }
    return write_run(folder, rows, finalists, importance)


def _random_trial(
    rng: random.Random, number: int, published: str, macs: float, volume: float
) -> dict[str, object]:
    latency = 9 * (macs / 2e8) ** 0.8 * rng.uniform(0.85, 1.3)
    found = rng.random() > 0.12
    size = min(macs / 8e9, 1) ** 0.3
    accuracy = (0.62 + 0.27 * size if found else 0.42) + rng.gauss(0, 0.025)
    return trial(
        number,
        published=published,
        variant_id=f"sepvit-{rng.getrandbits(48):012x}",
        macs=int(macs),
        params=int(macs / 170 * rng.uniform(0.7, 1.4)),
        latency_ms=round(latency, 3),
        latency_low_ms=round(latency * 0.96, 3),
        latency_high_ms=round(latency * rng.uniform(1.02, 1.15), 3),
        latency_noisy=rng.random() < 0.1,
        latency_ratio=round(latency / 25.1, 4),
        accuracy=round(accuracy, 4),
        relation_found=found,
        hypervolume=round(volume, 4),
        front_size=1 + number // 6,
        **{f"axis_{name}": rng.choice(values) for name, (_, values) in AXES.items()},
    )


def _random_finalist(rng: random.Random, row: Mapping[str, object]) -> dict[str, object]:
    same = ("number", "published", "variant_id", "params", "macs", "latency_ms", "latency_low_ms",
            "latency_high_ms", "config")  # fmt: skip
    accuracy = float(str(row["accuracy"])) + 0.05
    half = rng.uniform(0.006, 0.02)
    return finalist(0) | {name: row[name] for name in same} | {
        "accuracy": round(accuracy, 4),
        "accuracy_low": round(accuracy - half, 4),
        "accuracy_high": round(accuracy + half, 4),
        "found": 3 if row["relation_found"] else 2,
    }  # fmt: skip


def _mark_front(finalists: list[dict[str, object]]) -> None:
    def costs(row: Mapping[str, object]) -> list[float]:
        return [float(str(row[name])) for name in ("macs", "latency_ms")] + [
            -float(str(row["accuracy"]))
        ]

    for row in finalists:
        row["on_front"] = not any(
            other is not row and all(a <= b for a, b in zip(costs(other), costs(row), strict=True))
            for other in finalists
        )
