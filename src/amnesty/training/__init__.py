"""The loop, its schedules, masks and batch-norm policies; ordinary training."""

from amnesty.training.batchnorm import BATCH_NORM_POLICIES, BatchNormPolicy
from amnesty.training.checkpoints import Checkpoints
from amnesty.training.fit import Recipe, train
from amnesty.training.hooks import Hook, pull_back, shrink
from amnesty.training.loop import PRECISIONS, Loop
from amnesty.training.masks import FrozenCoordinates, Masks, both, check_masks
from amnesty.training.progress import Record, Watch, progress_bar
from amnesty.training.sam import SAM
from amnesty.training.schedules import SCHEDULES, Factor, Schedule, factor
from amnesty.training.settings import Between, Count, CountOrZero, NotNegative, Part, Positive, Share, faults
from amnesty.training.stepper import MakeOptimizer
from amnesty.training.stopping import Stop, stop_on_signals

__all__ = [
    "BATCH_NORM_POLICIES",
    "PRECISIONS",
    "SAM",
    "SCHEDULES",
    "BatchNormPolicy",
    "Between",
    "Checkpoints",
    "Count",
    "CountOrZero",
    "Factor",
    "FrozenCoordinates",
    "Hook",
    "Loop",
    "MakeOptimizer",
    "Masks",
    "NotNegative",
    "Part",
    "Positive",
    "Recipe",
    "Record",
    "Schedule",
    "Share",
    "Stop",
    "Watch",
    "both",
    "check_masks",
    "factor",
    "faults",
    "progress_bar",
    "pull_back",
    "shrink",
    "stop_on_signals",
    "train",
]
