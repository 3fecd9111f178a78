"""A result as files: Markdown, LaTeX, CSV."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any

from experiments.ablation.effects import term_name
from experiments.ablation.layout import Table, sentences, tables
from experiments.ablation.results import Count, Result, RowResult
from experiments.ablation.significance import Difference, Mean
from search.environment import environment

Values = dict[str, Any]

LATEX: dict[str, str | int | None] = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$",
    "≈": r"$\approx$", "≠": r"$\neq$", "↕": r"$\updownarrow$", "—": "---", "†": r"$\dagger$",
}  # fmt: skip
"""What LaTeX does not print as it stands."""


# --- text ---------------------------------------------------------------------------------------


def markdown(result: Result) -> str:
    """The whole result as Markdown."""
    parts = [f"# {result.name}", result.ablation.question]
    parts += ["\n".join(f"- {sentence}" for sentence in sentences(result))]
    for table in tables(result):
        parts += [f"## {table.title}", markdown_table(table), table.caption]
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown_table(table: Table, *, words: bool = False) -> str:
    """A table as Markdown; all columns but the first are right-aligned, unless they hold words."""
    rule = "---" if words else "---:"
    lines = [table.header, ("---", *[rule] * (len(table.header) - 1)), *table.rows]
    return "\n".join("| " + " | ".join(_markdown(cell) for cell in line) + " |" for line in lines)


def _markdown(text: str) -> str:
    return text.replace("|", r"\|")


def latex(result: Result) -> str:
    """All tables as LaTeX floats; they need the package booktabs."""
    return "\n".join(latex_table(table, f"{result.name}: ") for table in tables(result))


def latex_table(table: Table, prefix: str = "") -> str:
    """A table as a LaTeX float."""
    lines = [
        r"\begin{table}",
        rf"\caption{{{_latex(prefix + table.title)}. {_latex(table.caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
        r"\toprule",
        _latex_line(table.header),
        r"\midrule",
        *(_latex_line(row) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(_latex(cell) for cell in cells) + r" \\"


def _latex(text: str) -> str:
    return text.translate(str.maketrans(LATEX))


# --- numbers ------------------------------------------------------------------------------------


def result_rows(result: Result) -> list[Values]:
    """Rows of ``results.csv``: all numbers, and how and where they were measured."""
    how = {
        "recipe": result.plan.recipe.name,
        "recipe_settings": json.dumps(result.plan.recipe.to_dict()),
        "routing_settings": json.dumps(result.plan.routing.to_dict()),
        "latency_protocol": json.dumps(dataclasses.asdict(result.plan.protocol)),
        "source": result.ablation.published.source if result.ablation.published else "",
        **environment(),
    }
    return [_values(row, result) | how for row in result.rows]


def _values(row: RowResult, result: Result) -> Values:
    measured = row.measured
    config, trained = measured.row.subject.config, measured.row.trained
    values: Values = {"row": row.label, "subject": measured.row.subject.key}
    values |= {f"factor_{name}": level for name, level in measured.row.setting.items()}
    values |= _count_values("params", row.params) | _count_values("macs", row.macs)
    latency = measured.latency
    values |= {
        "latency_ratio": latency and latency.ratio,
        "latency_ratio_low": latency and latency.low,
        "latency_ratio_high": latency and latency.high,
        "latency_noisy": latency and latency.noisy,
        "latency_reference": result.plan.protocol.reference,
        "published_speed": row.published_speed,
        "speed_verdict": row.speed_verdict.value,
    }
    for score, found in row.means.items():
        values |= _columns(score, Mean, found)
        values |= _columns(f"{score}_above", Difference, row.above[score])
        values |= _columns(f"{score}_base", Difference, row.base[score])
    printed = row.published.score
    values |= {
        "published_score": printed and printed.text,
        "published_step": row.published_step,
        "order_verdict": row.order_verdict.value,
        "latency_missing": measured.missing.get("latency", ""),
        "proxy_missing": measured.missing.get("proxy", ""),
        "config": config.to_json() if config else "",
        "trained": trained.to_json() if trained and measured.trainings else "",
    }
    return values


def _count_values(name: str, count: Count) -> Values:
    return {
        name: count.value,
        f"{name}_printed": count.printed and count.printed.text,
        f"{name}_difference": count.difference,
        f"{name}_verdict": count.verdict.value,
    }


def _columns(name: str, kind: type[Mean], found: Mean | None) -> Values:
    """Fields of an estimate as columns; empty ones where there is none."""
    fields = [field.name for field in dataclasses.fields(kind)]
    return {
        name if field == "value" else f"{name}_{field}": getattr(found, field, None)
        for field in fields
    }


def training_rows(result: Result) -> list[Values]:
    """Rows of ``trials.csv``: one a row and seed, failures with their reason."""
    return list(_trainings(result))


def _trainings(result: Result) -> Iterator[Values]:
    for row in result.rows:
        for training in row.measured.trainings:
            yield {
                "row": row.label,
                "subject": row.measured.row.subject.key,
                "recipe": result.plan.recipe.name,
                "seed": training.seed,
                **training.scores,
                "seconds": training.seconds,
                "error": training.error,
                **training.environment,
            }


def effect_rows(result: Result) -> list[Values]:
    """Rows of ``effects.csv``."""
    axes = result.ablation.axes
    return [
        {
            "effect": term_name(effect.term, axes),
            "aliases": "; ".join(term_name(term, axes) for term in effect.aliases),
            "on": effect.on,
            **_columns("size", Difference, effect.estimate),
        }
        for effect in result.effects
    ]
