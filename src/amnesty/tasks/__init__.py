"""Domains: how a batch becomes the players' losses."""

from amnesty.tasks.base import Loss, Role, Source, device_of, evaluating, to_device, usable_device
from amnesty.tasks.classification import Classification
from amnesty.tasks.forgetting import ascended, labelled_as, nearest_wrong, uniform
from amnesty.tasks.inspection import inspect
from amnesty.tasks.labelled import Predictions, count_classes, logits, unpack
from amnesty.tasks.objectives import Accompanied, Mean, Mixed, Objective, Seen, blend, cross_entropy, truth, weighted
from amnesty.tasks.task import WISHES, Task, Wish
from amnesty.tasks.teaching import as_unsure, contrasted, divergence, frozen, imitated
from amnesty.tasks.unseen import Distance, Unseen

__all__ = [
    "WISHES",
    "Accompanied",
    "Classification",
    "Distance",
    "Loss",
    "Mean",
    "Mixed",
    "Objective",
    "Predictions",
    "Role",
    "Seen",
    "Source",
    "Task",
    "Unseen",
    "Wish",
    "as_unsure",
    "ascended",
    "blend",
    "contrasted",
    "count_classes",
    "cross_entropy",
    "device_of",
    "divergence",
    "evaluating",
    "frozen",
    "imitated",
    "inspect",
    "labelled_as",
    "logits",
    "nearest_wrong",
    "to_device",
    "truth",
    "uniform",
    "unpack",
    "usable_device",
    "weighted",
]
