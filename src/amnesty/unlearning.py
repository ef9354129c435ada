"""The one door to every method."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass

import torch
from torch import nn

from amnesty.errors import InvalidInputError
from amnesty.methods.base import Method
from amnesty.seeds import seeded
from amnesty.tasks import Classification, device_of
from amnesty.training import Loop, Masks, Record, Watch, check_masks, progress_bar


@dataclass(frozen=True)
class Outcome:
    """What a run leaves.

    Attributes:
        model: the unlearned model, in evaluation mode, on the device of the task's model.
        history: one record a step; see `amnesty.training.Record`.
        seconds: wall-clock time of everything the method did, checks and evaluation excluded.
        method: as it was run.
        seed: as it was run.
    """

    model: nn.Module
    history: list[Record]
    seconds: float
    method: Method
    seed: int


def unlearn(
    task: Classification,
    method: Method,
    *,
    seed: int = 0,
    device: str | torch.device | None = None,
    precision: str = "float32",
    workers: int = 0,
    masks: Masks | None = None,
    progress: bool | Watch = False,
) -> Outcome:
    """Make a copy of the task's model forget, and return it.

    The task's model, the caller's random generators and the data stay as they are. One seed gives the same
    weights to the bit on one machine.

    Args:
        task: model and data; checked in full before anything is trained.
        method: one of `amnesty.methods`, with its settings.
        seed: of data order, labels and noise; the order of a ``DataLoader`` of yours is its own.
        device: where to train; by default where the model is.
        precision: ``"float32"``, or ``"bfloat16"`` for autocast with float32 weights.
        workers: processes that read data sets that are not in memory.
        masks: for parameters by name, which coordinates may move (bool, True where they may); the others keep their
            bits, whatever the method does.
        progress: ``True`` shows a bar; a function is called after every step instead.

    Raises:
        InvalidInputError: ``method`` is not a method (a class instead of an instance, say) or needs what the task
            does not have, the device is not there, or the data or the model cannot be used; see
            `amnesty.Classification.check`.
        UnknownNameError, ShapeError: ``masks`` do not fit the model.
        NonFiniteError: a loss or gradient became NaN or infinite; the error holds the last good model.
    """
    if not isinstance(method, Method):
        raise InvalidInputError(
            f"`method` must be an instance of a method, such as `amnesty.methods.MUNBa()`, found {method!r}."
        )
    if not isinstance(task, Classification):
        raise InvalidInputError(
            "`task` must say what to forget and what to keep: `amnesty.Classification(model, forget=..., ...)`; "
            f"found {type(task).__name__}."
        )
    away = _device(device)
    check_masks(task.model, masks or {})
    task.check()
    with seeded(seed, device_of(task.model)):
        method.check(task)
    home = device_of(task.model)
    away = away or home
    if progress is True:
        with progress_bar(type(method).__name__) as watch:
            return _run(task, method, seed, home, away, precision, workers, masks, watch)
    return _run(task, method, seed, home, away, precision, workers, masks, progress or None)


def _run(
    task: Classification,
    method: Method,
    seed: int,
    home: torch.device,
    away: torch.device,
    precision: str,
    workers: int,
    masks: Masks | None,
    watch: Watch | None,
) -> Outcome:
    _synchronise(away)
    start = time.perf_counter()
    model = copy.deepcopy(task.model).to(away)
    on_device = {name: mask.to(away) for name, mask in (masks or {}).items()}
    loop = Loop(model, task.sources, seed, precision, workers, watch, on_device)
    with seeded(seed, away):
        method.run(task, loop)
    loop.settle()
    _synchronise(away)
    seconds = time.perf_counter() - start
    loop.model.zero_grad(set_to_none=True)
    if loop.model is model:  # a new model, made by the caller's function, has flags of its own
        for mine, its in zip(model.parameters(), task.model.parameters(), strict=True):
            mine.requires_grad_(its.requires_grad)
    return Outcome(loop.model.to(home).eval(), loop.history, seconds, method, seed)


def _device(device: str | torch.device | None) -> torch.device | None:
    if device is None:
        return None
    try:
        torch.empty(0, device=device)
    except (RuntimeError, TypeError, AssertionError) as error:  # torch built without CUDA asserts
        raise InvalidInputError(f"`device` {device!r} cannot be used here: {error}") from error
    return torch.device(device)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
