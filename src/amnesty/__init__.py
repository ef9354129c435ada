"""Amnesty makes a trained PyTorch model forget chosen data, keeps the rest, and proves it."""

from amnesty import bargaining, data, evaluation, methods
from amnesty.evaluation import Scores, evaluate
from amnesty.tasks import Classification
from amnesty.tasks.diffusion import Concept, Diffusion, Drawing
from amnesty.tasks.text_encoder import TextEncoder
from amnesty.tasks.zero_shot import Transfer, ZeroShot
from amnesty.training import Recipe, train
from amnesty.unlearning import Outcome, unlearn

__all__ = [
    "Classification",
    "Concept",
    "Diffusion",
    "Drawing",
    "Outcome",
    "Recipe",
    "Scores",
    "TextEncoder",
    "Transfer",
    "ZeroShot",
    "bargaining",
    "data",
    "evaluate",
    "evaluation",
    "methods",
    "train",
    "unlearn",
]
