"""Domains: how a batch becomes the players' losses."""

from amnesty.tasks.base import Loss, Role, Source, device_of, evaluating, to_device
from amnesty.tasks.classification import Classification
from amnesty.tasks.inspection import inspect
from amnesty.tasks.labelled import Predictions, count_classes, cross_entropy, unpack

__all__ = [
    "Classification",
    "Loss",
    "Predictions",
    "Role",
    "Source",
    "count_classes",
    "cross_entropy",
    "device_of",
    "evaluating",
    "inspect",
    "to_device",
    "unpack",
]
