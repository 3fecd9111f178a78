"""The colours of all figures: those of Okabe and Ito, which colour-blind readers tell apart."""

from __future__ import annotations

from collections.abc import Mapping

BLUE, ORANGE = "#0072b2", "#d55e00"
INK, MUTED, FAINT, GRID, PAPER = "#1b1d21", "#5f6368", "#9aa0a6", "#e3e5e8", "#ffffff"

DARK: Mapping[str, str] = {
    BLUE: "#56b4e9",
    ORANGE: "#f2a35e",
    INK: "#e8eaed",
    MUTED: "#b4b9c0",
    FAINT: "#80868b",
    GRID: "#34383e",
    PAPER: "#16181c",
}
"""What each colour becomes on a dark screen."""
