"""The folder of a run: one run at a time, nothing overwritten, and what is there when a run goes on."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from amnesty.errors import CheckpointError, InvalidInputError
from amnesty.files import write_json, write_text
from amnesty.requests.digests import AUDIT, REQUEST, SIGNATURE, read_text
from amnesty.requests.request import BaseRequest
from amnesty.requests.yaml_file import dump
from amnesty.training import Checkpoints
from amnesty.training.shelf import Shelf

CHECKPOINT, LOCK, STARTED = "checkpoint", ".lock", "started.json"
ROOM = 6
"""Copies of the model that must find room: two checkpoints of weights and momentum, the original, and the result."""

_PARTIAL = re.compile(r"\..+\.[0-9a-f]{16}")  # what `amnesty.files.whole` and its like write to


class RunFolderError(InvalidInputError):
    """A folder that a run cannot write to: taken, in use, of another request, or without room."""


@dataclass(frozen=True)
class Sitting:
    """One of the times that somebody sat down to a run.

    Attributes:
        started: when the first one began.
        number: from 1.
    """

    started: datetime
    number: int


@dataclass(frozen=True)
class RunFolder:
    """Where a run writes.

    While the run goes on there is ``checkpoint/started.json``. It is removed once everything else is written, so that
    a folder with audit.json and without that file is finished.

    Attributes:
        path: of the folder.
        request: whose result it holds.
    """

    path: Path
    request: BaseRequest

    @property
    def checkpoint(self) -> Path:
        """Where the run is saved while it goes on."""
        return self.path / CHECKPOINT

    @property
    def original(self) -> Path:
        """Where the original is meanwhile; see `amnesty.requests.aside.set_aside`."""
        return self.checkpoint / "original"

    @property
    def scoring(self) -> Path:
        """For what scoring need not do again where it was stopped."""
        return scoring_in(self.path)

    @property
    def finished(self) -> bool:
        """Whether a run has come to its end here."""
        return (self.path / AUDIT).is_file() and not (self.checkpoint / STARTED).exists()

    @property
    def unfinished(self) -> bool:
        """Whether a run can go on here."""
        return (self.path / REQUEST).is_file() and not self.finished

    def check(self, resume: bool) -> None:
        """Raise unless a run may begin, or with ``resume`` go on, in this folder; nothing is written.

        Raises:
            RunFolderError: something else lies there, the run is finished, or it is one of another request.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunFolderError(f"{self.path} is a file; the result needs a folder. Choose another with --out.")
        if not self._holds_something():
            return
        if self.finished:
            raise RunFolderError(
                f"{self.path} holds the result of a finished run. Choose another folder with --out; `amnesty verify "
                f"{self.path}` checks what is there."
            )
        if not (self.path / REQUEST).is_file():
            raise RunFolderError(f"{self.path} is not empty, and holds no run. Choose another folder with --out.")
        if not resume:
            raise RunFolderError(
                f"{self.path} holds a run that is not finished. Go on with --resume, or choose another folder with "
                "--out."
            )
        if self.checkpoint.exists() and not self.checkpoint.is_dir():
            raise RunFolderError(f"{self.checkpoint} is a file, where the run's checkpoints belong: it cannot go on.")
        self.check_request()

    def check_request(self) -> None:
        """Raise `RunFolderError` unless the run in the folder is of this very request."""
        path = self.path / REQUEST
        if read_text(path) != dump(self.request.document):
            raise RunFolderError(
                f"{path} is another request than this one: a run can only go on as it began. Resume with the request "
                f"as it was (`amnesty unlearn {path} --out {self.path} --resume`), or choose another folder with "
                "--out."
            )

    def check_room(self, size: int, once: int = 0) -> None:
        """Raise `RunFolderError` unless there is room for the run.

        Args:
            size: bytes of the model, of which there are `ROOM` copies at most.
            once: further bytes, which are written once.
        """
        needed = ROOM * size + once
        home = next(one for one in (self.path, *self.path.absolute().parents) if one.is_dir())
        free = shutil.disk_usage(home).free
        if free < needed:
            raise RunFolderError(
                f"{self.path}: there are {free / 2**20:,.0f} MiB free where checkpoints and the result would need up "
                f"to {needed / 2**20:,.0f} MiB."
            )

    @contextmanager
    def taken(self, resume: bool) -> Iterator[Sitting]:
        """Take the folder for one run, made where it is missing.

        Of a run that fails before anything of worth is saved nothing is left.

        Raises:
            RunFolderError: see `check`; or another run is using the folder, or it cannot be written to.
        """
        made = not self.path.exists()
        try:
            with self._alone():
                self.check(resume)  # again: now nobody else can write
                try:
                    yield self._begun()
                finally:
                    self._tidy()
        finally:
            if made and self.path.is_dir() and not any(self.path.iterdir()):
                self.path.rmdir()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with ExitStack() as stack:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                stack.enter_context(Shelf(self.path).locked())
            except CheckpointError as error:
                raise RunFolderError(
                    f"Another run is writing to {self.path}. Wait for it, or choose another folder with --out."
                ) from error
            except OSError as error:
                raise RunFolderError(
                    f"{self.path} cannot be written to: {error.strerror or error}. Choose another folder with --out."
                ) from error
            stack.callback((self.path / LOCK).unlink, missing_ok=True)  # while nobody else can have it
            yield

    def _begun(self) -> Sitting:
        for path in self.path.iterdir():
            if _PARTIAL.fullmatch(path.name):  # it was being written when a run was killed
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name in (AUDIT, SIGNATURE):  # the last of a result, without which the rest does not count
            (self.path / name).unlink(missing_ok=True)
        before = _read_sitting(self.checkpoint / STARTED)
        sitting = Sitting(datetime.now(UTC), 1) if before is None else Sitting(before.started, before.number + 1)
        write_text(self.path / REQUEST, dump(self.request.document))
        self.checkpoint.mkdir(exist_ok=True)
        write_json(self.checkpoint / STARTED, {"started": sitting.started.isoformat(), "sittings": sitting.number})
        return sitting

    def finish(self) -> None:
        """Say that everything is written, and remove what was needed only while the run went on.

        Raises:
            CheckpointError: a run is using the checkpoints.
        """
        (self.checkpoint / STARTED).unlink(missing_ok=True)
        self.original.unlink(missing_ok=True)
        shutil.rmtree(self.scoring, ignore_errors=True)
        Checkpoints(self.checkpoint).clear()

    def sweep(self) -> None:
        """Remove what is left where a finished run was killed at its very end. Raises as `taken` and `finish`."""
        with self._alone():
            self.finish()

    def _holds_something(self) -> bool:
        return self.path.exists() and any(
            path.name != LOCK and not _PARTIAL.fullmatch(path.name) for path in self.path.iterdir()
        )

    def _tidy(self) -> None:
        """Remove what this run wrote if it is nothing of worth: no checkpoint, no result."""
        others = {path.name for path in self.path.iterdir()} - {LOCK, REQUEST, CHECKPOINT}
        if not others and not Checkpoints(self.checkpoint).found:
            shutil.rmtree(self.checkpoint, ignore_errors=True)
            (self.path / REQUEST).unlink(missing_ok=True)


def scoring_in(folder: Path) -> Path:
    """Return where a run in a folder keeps what scoring need not do again."""
    return folder / CHECKPOINT / "scoring"


def _read_sitting(path: Path) -> Sitting | None:
    try:
        found = json.loads(read_text(path) or "")
        return Sitting(datetime.fromisoformat(found["started"]), int(found["sittings"]))
    except (ValueError, KeyError, TypeError):  # not there, or damaged: then nobody knows
        return None
