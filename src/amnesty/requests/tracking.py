"""Trackers of a run, through `accelerate`: TensorBoard, Weights & Biases, MLflow and the like. They only look on."""

from __future__ import annotations

import importlib.util
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from amnesty.errors import InvalidInputError, UnknownNameError, one_line
from amnesty.training import Record

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker  # type: ignore[import-untyped]

PROJECT = "amnesty"
"""Name of the project, or experiment, under which services list the runs."""

_PACKAGES = {"tensorboard": ("tensorboard", "tensorboardX")}  # where it is not the tracker's own name
_LONGEST = 250  # characters of a setting; some services take no more


class TrackerError(InvalidInputError):
    """A tracker that cannot be used: its package is missing, or it did not start."""


def folder_of_trackers(out: Path) -> Path:
    """Return the folder for what trackers write, beside the result in ``out``.

    It is not in the result's folder: trackers change their files when they like, and write down the names of the
    machine and of its user, which is nothing for an audit.

    >>> folder_of_trackers(Path("results/user-7")).as_posix()
    'results/user-7-trackers'
    """
    return out.with_name(f"{out.name}-trackers")


def check_trackers(names: Sequence[str | GeneralTracker]) -> None:
    """Refuse trackers that `accelerate` does not know, or whose package is not installed, before any work.

    Args:
        names: as `accelerate` calls them, such as ``"tensorboard"`` or ``"wandb"``, or trackers of one's own.

    Raises:
        UnknownNameError: there is no such tracker.
        TrackerError: its package is not installed.
    """
    if not names:
        return
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
    from accelerate.utils import LoggerType  # type: ignore[import-untyped]

    for name in names:
        if isinstance(name, GeneralTracker):
            continue
        if str(name) not in LOGGER_TYPE_TO_CLASS:
            raise UnknownNameError("tracker", name, LOGGER_TYPE_TO_CLASS)
        packages = _PACKAGES.get(name, (name,))
        if name in LoggerType.list() and not any(importlib.util.find_spec(each) for each in packages):
            raise TrackerError(
                f"The tracker {name!r} needs the package `{packages[0]}`, which is not installed. Install it with: "
                f"pip install {packages[0]}"
            )


class Tracking:
    """Hands a run's numbers to trackers; a `Watch` for `amnesty.unlearn`.

    A tracker that fails while the run goes on is left out from there, and named in ``warnings``: looking on must not
    end what is looked at. What a tracker does changes no random generator of PyTorch, NumPy or Python.

    Attributes:
        warnings: what went wrong, a sentence for each tracker that failed.
    """

    def __init__(self, trackers: Sequence[GeneralTracker], tell: Callable[[str], None] | None = None) -> None:
        self.warnings: list[str] = []
        self._trackers = list(trackers)
        self._tell = tell
        self._step = 0

    def __call__(self, record: Record, total: int) -> None:
        """Log a step's numbers under its own number, so that a resumed run goes on where it was."""
        self._step = int(record["step"])
        self._log(plain_numbers({key: value for key, value in record.items() if key != "step"}))

    def scores(self, scores: Mapping[str, Mapping[str, float]]) -> None:
        """Log the scores, model by model, at the last step: ``munba/forget_accuracy`` and so on."""
        self._log(plain_numbers({f"{model}/{key}": v for model, own in scores.items() for key, v in own.items()}))

    def close(self) -> None:
        """Let every tracker finish and close its files."""
        for tracker in self._trackers:
            self._guarded(tracker, "did not finish", tracker.finish)
        self._trackers = []

    def _log(self, values: dict[str, float]) -> None:
        for tracker in list(self._trackers):
            if not self._guarded(tracker, "failed", partial(tracker.log, values, step=self._step)):
                self._trackers.remove(tracker)
                self._guarded(tracker, "", tracker.finish)

    def _guarded(self, tracker: GeneralTracker, what: str, do: Callable[[], object]) -> bool:
        try:
            with unmoved():
                do()
        except Exception as error:  # of any package and any network
            if what:  # a tracker that has failed before was named then
                self._warn(f"The tracker {tracker.name} {what} at step {self._step}: {one_line(error)}")
            return False
        return True

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
        if self._tell is not None:
            self._tell(text)


@contextmanager
def tracking(
    names: Sequence[str | GeneralTracker],
    folder: Path,
    run_name: str,
    config: Mapping[str, Any],
    *,
    tell: Callable[[str], None] | None = None,
) -> Iterator[Tracking]:
    """Start trackers, give what `amnesty.unlearn` takes as ``progress``, and close them at the end.

    Args:
        names: see `check_trackers`.
        folder: where those that write files do so; see `folder_of_trackers`. Made if it is missing.
        run_name: of the run, in services that name runs.
        config: settings of the run, to any depth. They leave this machine where a tracker is a service: nothing that
            names the forgotten examples belongs here.
        tell: called with every warning as it comes.

    Raises:
        UnknownNameError, TrackerError: as `check_trackers`; or a tracker did not start, such as a service that
            nobody is logged in to.
    """
    check_trackers(names)
    if not names:
        yield Tracking(())
        return
    started = Tracking(_start(names, folder, run_name, flattened(config)), tell)
    try:
        yield started
    finally:
        started.close()


def _start(
    names: Sequence[str | GeneralTracker], folder: Path, run_name: str, config: Mapping[str, Any]
) -> list[GeneralTracker]:
    from accelerate.state import PartialState  # type: ignore[import-untyped]

    started: list[GeneralTracker] = []
    for name in dict.fromkeys(names):
        try:
            with unmoved():
                # All that trackers need. An `Accelerator` would refuse others one with another precision later.
                PartialState()
                tracker = _made(name, folder, run_name) if isinstance(name, str) else name
                tracker.start()
                started.append(tracker)
                tracker.store_init_configuration(dict(config))
        except Exception as error:  # of any package and any network
            Tracking(started).close()
            said = name if isinstance(name, str) else name.name
            raise TrackerError(f"The tracker {said!r} did not start: {one_line(error)}") from error
    return started


def _made(name: str, folder: Path, run_name: str) -> GeneralTracker:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    kind = LOGGER_TYPE_TO_CLASS[name]
    folder.mkdir(parents=True, exist_ok=True)
    if name == "mlflow":
        _keep_mlflow_in(folder)
    further = {
        "wandb": {"name": run_name, "dir": str(folder)},
        "mlflow": {"run_name": run_name},
        "swanlab": {"experiment_name": run_name, "logdir": str(folder)},
        "trackio": {"name": run_name},
        "aim": {"experiment": run_name},
        "clearml": {"project_name": PROJECT, "task_name": run_name},
        "dvclive": {"dir": str(folder / name)},
    }.get(name, {})
    made: GeneralTracker = (
        kind(PROJECT, str(folder), **further) if kind.requires_logging_directory else kind(PROJECT, **further)
    )
    return made


def _keep_mlflow_in(folder: Path) -> None:
    """Give MLflow a database in ``folder`` unless it was told where to go: its own choice is the working folder."""
    import mlflow  # type: ignore[import-not-found]

    if not mlflow.is_tracking_uri_set():
        mlflow.set_tracking_uri(f"sqlite:///{folder.resolve() / 'mlflow.db'}")


@contextmanager
def unmoved() -> Iterator[None]:
    """Leave the random generators of PyTorch, NumPy and Python as they are, whatever is done inside."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    kept = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=list(devices)):
        try:
            yield
        finally:
            random.setstate(kept[0])
            np.random.set_state(kept[1])


def plain_numbers(values: Mapping[str, object]) -> dict[str, float]:
    """Return the finite numbers among the values; true and false as 1 and 0.

    >>> plain_numbers({"loss": 0.5, "stationary": False, "note": "text", "cosine": None, "length": float("nan")})
    {'loss': 0.5, 'stationary': 0}
    """
    found = {}
    for key, value in values.items():
        if isinstance(value, int | float) and math.isfinite(value):
            found[key] = int(value) if isinstance(value, bool) else value
    return found


def flattened(config: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """Return settings of any depth as plain ones, named ``a.b``; what is None is left out.

    >>> flattened({"name": "munba", "rule": {"nash": {"power": [1, 2]}}, "masks": None})
    {'name': 'munba', 'rule.nash.power': '[1, 2]'}
    """
    found: dict[str, bool | int | float | str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= {f"{key}.{inner}": v for inner, v in flattened(value).items()}
        elif isinstance(value, bool | int | float):
            found[str(key)] = value
        elif value is not None:
            found[str(key)] = str(value)[:_LONGEST]
    return found
