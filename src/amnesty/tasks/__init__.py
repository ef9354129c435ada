"""Domains: how a batch becomes the players' losses."""

from amnesty.tasks.base import Loss, Role, Source, device_of, evaluating, to_device
from amnesty.tasks.classification import Classification
from amnesty.tasks.labelled import Predictions, cross_entropy

__all__ = [
    "Classification",
    "Loss",
    "Predictions",
    "Role",
    "Source",
    "cross_entropy",
    "device_of",
    "evaluating",
    "to_device",
]
