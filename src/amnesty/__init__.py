"""Amnesty makes a trained PyTorch model forget chosen data, keeps the rest, and proves it."""

from amnesty import bargaining, data, evaluation, methods
from amnesty.evaluation import Scores, evaluate
from amnesty.tasks import Classification
from amnesty.training import Recipe, train
from amnesty.unlearning import Outcome, unlearn

__all__ = [
    "Classification",
    "Outcome",
    "Recipe",
    "Scores",
    "bargaining",
    "data",
    "evaluate",
    "evaluation",
    "methods",
    "train",
    "unlearn",
]
