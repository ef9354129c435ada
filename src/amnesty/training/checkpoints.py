"""Runs that survive: where and how often they are saved, and whether to go on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import torch

from amnesty.errors import CheckpointError, InvalidInputError
from amnesty.training.keeper import Keeper
from amnesty.training.settings import Count, Positive
from amnesty.training.settings import faults as faults_of
from amnesty.training.shelf import Shelf


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Checkpoints:
    """Where and how often a run is saved, so that it goes on to the same bits after whatever has ended it.

    A checkpoint holds the weights, the optimiser, the schedule, random states, the position in the data and the
    history, in files of plain numbers. The two newest are kept, and how each earlier phase of a method ended, until
    `clear`. Each appears as a whole: whatever is killed while it writes, or runs out of disk, leaves the one before.

    Args:
        folder: a path, or its name; for nothing else. It is made where it is missing.
        steps: save after so many steps. minutes: save after so many minutes. Either may be ``None``; whichever comes
            first counts.
        resume: go on from the newest whole checkpoint, or start if there is none. Otherwise a folder with checkpoints
            is refused.
        stop: asked after every step; where it says True, the run saves that step and raises `InterruptedRunError`.
            See `stop_on_signals`.
        tell: gets a sentence for everything that is not as it should be, such as a damaged checkpoint that is not
            used; by default it becomes a warning.

    Raises:
        InvalidInputError: settings out of range, all of them named at once.

    Example:
        >>> from amnesty.training import Checkpoints
        >>> Checkpoints("checkpoint", steps=100).found
        False
    """

    folder: Path
    _: KW_ONLY
    steps: Count | None = None
    minutes: Positive | None = 10.0
    resume: bool = False
    stop: Callable[[], bool] = _never
    tell: Callable[[str], object] = warnings.warn

    def __post_init__(self) -> None:
        given: Any = self.folder
        faults = faults_of(self)
        if not isinstance(given, str | Path) or not str(given):
            faults.append(f"`folder` must be a path, found {given!r}")
        if faults:
            raise InvalidInputError(f"Checkpoints: {'; '.join(faults)}.")
        object.__setattr__(self, "folder", Path(given))

    @property
    def found(self) -> bool:
        """Whether there are checkpoints in the folder, whole or not."""
        return bool(Shelf(self.folder).entries())

    def check(self) -> None:
        """Raise `CheckpointError` if the folder is a file, or has checkpoints that nobody wants to go on from."""
        if self.folder.exists() and not self.folder.is_dir():
            raise CheckpointError(f"Checkpoints need a folder, but {self.folder} is a file.")
        if self.found and not self.resume:
            raise CheckpointError(
                f"{self.folder} holds checkpoints. Go on from them with `resume=True` (`--resume`), or choose "
                "another folder; `Checkpoints.clear` removes them."
            )

    def clear(self) -> None:
        """Remove the checkpoints, and the folder if nothing else is in it; for when the run's result is safe.

        Raises:
            CheckpointError: a run is using them.
        """
        Shelf(self.folder).clear()

    @contextmanager
    def opened(self, run: Mapping[str, str], device: torch.device) -> Iterator[Keeper]:
        """Give what a `Loop` saves its run with, and goes on from.

        Args:
            run: see `amnesty.training.identity.identity`.
            device: where the run trains.

        Raises:
            CheckpointError: as `check`; or the checkpoints are of another run, or another run uses the folder.
        """
        self.check()
        self.folder.mkdir(parents=True, exist_ok=True)
        shelf = Shelf(self.folder)
        settings: dict[str, Any] = {name: getattr(self, name) for name in ("steps", "minutes", "stop", "tell")}
        with shelf.locked():
            self.check()  # again: now nobody else can add any
            keeper = Keeper(shelf, run, device, **settings)
            keeper.find()
            yield keeper
