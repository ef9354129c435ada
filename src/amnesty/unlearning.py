"""The one door to every method."""

from __future__ import annotations

import copy
import time
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import nn

from amnesty.errors import InvalidInputError
from amnesty.methods.base import Method
from amnesty.seeds import seeded
from amnesty.tasks import Source, Task, device_of, usable_device
from amnesty.training import Checkpoints, Loop, Masks, Record, Watch, check_masks, progress_bar
from amnesty.training.identity import identity
from amnesty.training.keeper import Keeper


@dataclass(frozen=True)
class Outcome:
    """What a run leaves.

    Attributes:
        model: the unlearned model, in evaluation mode, on the device of the task's model.
        history: one record a step; see `amnesty.training.Record`.
        seconds: wall-clock time of everything the method did, checks and evaluation excluded.
        method: as it was run.
        seed: as it was run.
        resumed_after: lines of the history after which the run went on in a new sitting; see `Checkpoints`.
        notes: what was not as it should be on the way, such as a damaged checkpoint that was not used.
    """

    model: nn.Module
    history: list[Record]
    seconds: float
    method: Method
    seed: int
    resumed_after: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


def unlearn(
    task: Task,
    method: Method,
    *,
    seed: int = 0,
    device: str | torch.device | None = None,
    precision: str = "float32",
    workers: int = 0,
    masks: Masks | None = None,
    progress: bool | Watch = False,
    checkpoints: Checkpoints | None = None,
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
        progress: ``True`` shows a bar; a function is called after every step instead, but not again for steps that an
            earlier sitting saved.
        checkpoints: where the run is saved, so that it can go on to the same bits; see
            `amnesty.training.Checkpoints`. They stay until you `Checkpoints.clear` them. A data set with random
            numbers must draw them from the global generators of torch, NumPy or `random`, not from one of its own.

    Raises:
        InvalidInputError: ``method`` is not a method (a class instead of an instance, say) or needs what the task
            does not have, the device is not there, or the data or the model cannot be used; see
            `amnesty.Classification.check`.
        UnknownNameError, ShapeError: ``masks`` do not fit the model.
        NonFiniteError: a loss or gradient became NaN or infinite; the error holds the last good model.
        CheckpointError: ``checkpoints`` are of another run or in use, or the run cannot be saved.
        CheckpointWriteError: a checkpoint could not be written.
        InterruptedRunError: ``checkpoints.stop`` asked for it; the run is saved.
    """
    if not isinstance(method, Method):
        raise InvalidInputError(
            f"`method` must be an instance of a method, such as `amnesty.methods.MUNBa()`, found {method!r}."
        )
    if not isinstance(task, Task):
        raise InvalidInputError(
            "`task` must say what to forget and what to keep: `amnesty.Classification(model, forget=..., ...)`; "
            f"found {type(task).__name__}."
        )
    if checkpoints is not None:
        _check_checkpoints(checkpoints)
    away = None if device is None else usable_device(device)
    check_masks(task.model, masks or {})
    task.check()
    with seeded(seed, device_of(task.model)):
        method.check(task)
    away = away or device_of(task.model)
    with ExitStack() as stack:
        keeper = None
        if checkpoints is not None:
            same = {"seed": seed, "precision": precision, "workers": workers, **task.settings}
            run = identity(method, task.model, _read_by_methods(task), masks or {}, away, **same)
            keeper = stack.enter_context(checkpoints.opened(run, away))
        watch = stack.enter_context(progress_bar(type(method).__name__)) if progress is True else progress or None
        return _run(task, method, seed, away, precision, workers, masks, watch, keeper)


def _run(
    task: Task,
    method: Method,
    seed: int,
    away: torch.device,
    precision: str,
    workers: int,
    masks: Masks | None,
    watch: Watch | None,
    keeper: Keeper | None,
) -> Outcome:
    _synchronise(away)
    start = time.perf_counter()
    model = copy.deepcopy(task.model).to(away)
    on_device = {name: mask.to(away) for name, mask in (masks or {}).items()}
    loop = Loop(model, task.sources, seed, precision, workers, watch, on_device, keeper=keeper)
    with seeded(seed, away):
        method.run(task, loop)
    loop.settle()
    _synchronise(away)
    seconds = time.perf_counter() - start if keeper is None else keeper.seconds
    loop.model.zero_grad(set_to_none=True)
    if loop.model is model:  # a new model, made by the caller's function, has flags of its own
        for mine, its in zip(model.parameters(), task.model.parameters(), strict=True):
            mine.requires_grad_(its.requires_grad)
    finished = loop.model.to(device_of(task.model)).eval()
    sittings = () if keeper is None else (tuple(keeper.resumed_after), tuple(keeper.notes))
    return Outcome(finished, loop.history, seconds, method, seed, *sittings)


def _check_checkpoints(checkpoints: Checkpoints) -> None:
    if not isinstance(checkpoints, Checkpoints):
        raise InvalidInputError(
            "`checkpoints` must say where the run is saved: `amnesty.training.Checkpoints(folder)`; found "
            f"{checkpoints!r}."
        )
    checkpoints.check()


def _read_by_methods(task: Task) -> dict[str, Source]:
    unread = {"holdout", "nonmembers", *(["forget"] if task.sets else [])}
    return {name: source for name, source in task.sources.items() if name not in unread}


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
