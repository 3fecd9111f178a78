"""The page about latency says what the kept results say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.latency_page import page, validation_of

WHERE = {"date": "2026-01-02T03:04", "cpu": "Chip", "cores": 2, "threads": 1, "torch": "2.9"}


def predictions(errors: list[float]) -> pd.DataFrame:
    """Networks of ratio 1, 2, 3, ..., predicted too high by some share."""
    measured = np.arange(1, len(errors) + 1, dtype=float)
    predicted = measured * (1 + np.array(errors))
    rows: pd.DataFrame = pd.DataFrame(
        {
            "space": "sepvit", "predicted": predicted, "predicted_low": 0.9 * predicted,
            "predicted_high": 1.1 * predicted, "inside": True, "measured": measured,
            "measured_low": 0.98 * measured, "measured_high": 1.02 * measured, "loaded": False,
            "table_networks": 50, "table_seconds": 90.0, "microseconds": 7.2, **WHERE,
        }
    )  # fmt: skip
    return rows


def test_nothing_is_said_about_what_was_not_measured(tmp_path: Path) -> None:
    assert "## " not in page(tmp_path)


def test_repeatability(tmp_path: Path) -> None:
    """Values m, m (1 + x), m (1 - x) vary by x."""
    spread = np.array([0.0, 1.0, -1.0])
    rows = pd.DataFrame(
        {
            "model": "net", "execution": "eager fp32", "busy": 1, "ratio": 2 * (1 + 0.02 * spread),
            "latency_ms": 9 * (1 + 0.04 * spread), "single_ratio": 2 * (1 + 0.2 * spread),
            "single_ms": 9 * (1 + 0.3 * spread), **WHERE,
        }
    )  # fmt: skip
    rows.to_csv(tmp_path / "latency_repeatability.csv", index=False)
    text = page(tmp_path)
    line = next(line for line in text.splitlines() if line.startswith("| `net`"))
    shares = [cell.split("(")[0].strip() for cell in line.split("|")[4:8]]
    assert line.split("|")[3].strip() == "busy"
    assert shares == ["2.0%", "4.0%", "20.0%", "30.0%"]
    assert "Measured on Chip, 2 cores; threads: 1; torch 2.9; 2026-01-02." in text


def test_predictions_are_compared_with_measurements(tmp_path: Path) -> None:
    rows = predictions([0.01, -0.02, 0.03, 0.04, 0.15])
    found = validation_of(rows)
    assert found.error.value == pytest.approx(0.03)
    assert found.tau.value == pytest.approx(1)
    assert found.covered == 4 / 5  # 15 % too high is beyond 10 %
    assert found.noise == pytest.approx(0.02)
    rows.to_csv(tmp_path / "latency_prediction_sepvit.csv", index=False)
    line = next(line for line in page(tmp_path).splitlines() if line.startswith("| `sepvit`"))
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells[1:5] == ["5", "50", "1.5", "0%"]
    assert cells[5].startswith("3.0% (")
    assert cells[-4:] == ["80%", "± 2.0%", "0%", "7"]


def test_networks_outside_the_table_are_counted_apart() -> None:
    rows = predictions([0.01] * 5 + [0.5])
    rows.loc[5, "inside"] = False
    found = validation_of(rows)
    assert found.outside == pytest.approx(1 / 6)
    assert found.error.value == pytest.approx(0.01)
