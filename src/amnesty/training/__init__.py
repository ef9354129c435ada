"""The loop, its schedules, masks and batch-norm policies; ordinary training."""

from amnesty.training.batchnorm import BATCH_NORM_POLICIES, BatchNormPolicy
from amnesty.training.fit import Recipe, reinitialised, train
from amnesty.training.loop import PRECISIONS, Loop, MakeOptimizer
from amnesty.training.masks import FrozenCoordinates, Masks
from amnesty.training.progress import Record, Watch, progress_bar
from amnesty.training.schedules import SCHEDULES, Schedule
from amnesty.training.settings import faults

__all__ = [
    "BATCH_NORM_POLICIES",
    "PRECISIONS",
    "SCHEDULES",
    "BatchNormPolicy",
    "FrozenCoordinates",
    "Loop",
    "MakeOptimizer",
    "Masks",
    "Recipe",
    "Record",
    "Schedule",
    "Watch",
    "faults",
    "progress_bar",
    "reinitialised",
    "train",
]
