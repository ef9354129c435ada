"""Measures of forgetting and of what was kept."""

from amnesty.evaluation.membership import (
    auc,
    margins,
    matched,
    membership_advantage,
    threshold_scan,
)
from amnesty.evaluation.scores import GAP_PARTS, Scores, average_gap, evaluate

__all__ = [
    "GAP_PARTS",
    "Scores",
    "auc",
    "average_gap",
    "evaluate",
    "margins",
    "matched",
    "membership_advantage",
    "threshold_scan",
]
