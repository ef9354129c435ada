"""Models of two towers, such as CLIP, that must forget classes which are words to them."""

from amnesty.tasks.zero_shot.arguments import FORGET_LOSSES, RETAIN_LOSSES, ForgetLoss, RetainLoss, Transfer
from amnesty.tasks.zero_shot.classifier import ZeroShotClassifier
from amnesty.tasks.zero_shot.losses import Contrastive, Distilled, SameFeatures
from amnesty.tasks.zero_shot.task import ZeroShot
from amnesty.tasks.zero_shot.towers import GROUPS, Group
from amnesty.tasks.zero_shot.words import SEVEN_TEMPLATES, TEMPLATES

__all__ = [
    "FORGET_LOSSES",
    "GROUPS",
    "RETAIN_LOSSES",
    "SEVEN_TEMPLATES",
    "TEMPLATES",
    "Contrastive",
    "Distilled",
    "ForgetLoss",
    "Group",
    "RetainLoss",
    "SameFeatures",
    "Transfer",
    "ZeroShot",
    "ZeroShotClassifier",
]
