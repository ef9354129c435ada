"""A folder of checkpoints: each is whole or not there, one run at a time writes."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch

from amnesty.errors import CheckpointError, CheckpointWriteError
from amnesty.training.shards import damage, read_about, read_state, sync_folder, write_state

Kind = Literal["phase", "step"]

_NAME = re.compile(r"(phase|step)-(\d{8})")
_PARTIAL, _LOCK = ".partial-", ".lock"
_HELD: set[Path] = set()  # by this process, which a file's lock does not keep from itself


@dataclass(frozen=True)
class Entry:
    """A checkpoint: how a phase ended, or what was after a step of one.

    Attributes:
        path: its folder. kind: see above. number: of the phase, or the step.
    """

    path: Path
    kind: Kind
    number: int

    @cached_property
    def about(self) -> dict[str, Any]:
        """The facts about its state."""
        return read_about(self.path)

    def damage(self) -> str | None:
        """Return what is wrong with it."""
        return damage(self.path)

    def read(self, device: torch.device) -> Any:
        """Return its state."""
        return read_state(self.path, device)


class Shelf:
    """The checkpoints in ``folder``. What else lies there is left alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def entries(self) -> list[Entry]:
        """Return what is there, damaged ones too, in the order of their numbers."""
        found = []
        for path in sorted(self.folder.iterdir()) if self.folder.is_dir() else ():
            match = _NAME.fullmatch(path.name)
            if match:
                kind: Kind = "step" if match[1] == "step" else "phase"
                found.append(Entry(path, kind, int(match[2])))
        return found

    def write(self, kind: Kind, number: int, about: Any, state: Any) -> Entry:
        """Add a checkpoint; see `write_state`.

        Raises:
            CheckpointWriteError: it could not be written; nothing of it is left.
        """
        name = f"{kind}-{number:08}"
        path, partial = self.folder / name, self.folder / f"{_PARTIAL}{name}-{secrets.token_hex(4)}"
        try:
            partial.mkdir()
            write_state(partial, about, state)
            partial.rename(path)
            sync_folder(self.folder)
        except OSError as error:
            _remove(partial)
            raise CheckpointWriteError(
                f"The checkpoint of {kind} {number} could not be written to {self.folder}: "
                f"{error.strerror or error}. Nothing of it is left, and earlier checkpoints are whole: when there is "
                "room, go on with `resume=True` (`--resume`)."
            ) from error
        except BaseException:
            _remove(partial)
            raise
        return Entry(path, kind, number)

    def remove(self, entry: Entry) -> None:
        """Take a checkpoint away, at once."""
        gone = self.folder / f"{_PARTIAL}{secrets.token_hex(4)}"
        entry.path.rename(gone)  # a checkpoint that is half removed would look damaged
        _remove(gone)

    def sweep(self) -> None:
        """Remove what was being written, or removed, when a run was killed."""
        for path in self.folder.glob(f"{_PARTIAL}*"):
            _remove(path)

    def clear(self) -> None:
        """Remove all checkpoints, and the folder if nothing else is in it.

        Raises:
            CheckpointError: a run uses them.
        """
        if not self.folder.is_dir():
            return
        with self.locked():
            for entry in self.entries():
                self.remove(entry)
            self.sweep()
            (self.folder / _LOCK).unlink(missing_ok=True)
        with suppress(OSError):  # not empty: it is not all ours
            self.folder.rmdir()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out meanwhile; the lock of a process that was killed is gone.

        Raises:
            CheckpointError: another run uses the folder.
        """
        key = self.folder.resolve()
        if key in _HELD:
            raise _in_use(self.folder)
        handle = _lock(self.folder)
        _HELD.add(key)
        try:
            yield
        finally:
            _HELD.discard(key)
            os.close(handle)


def _lock(folder: Path) -> int:
    try:
        import fcntl
    except ImportError:  # Windows
        return os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR)
    while True:
        handle = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            # Not `flock`, which worker processes would inherit and hold for a while after this one was killed.
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), (folder / _LOCK).stat()):
                return handle
        except FileNotFoundError:
            pass  # removed by the run that had it
        except (BlockingIOError, PermissionError) as error:
            os.close(handle)
            raise _in_use(folder) from error
        except OSError:  # a file system without locks
            return handle
        os.close(handle)


def _in_use(folder: Path) -> CheckpointError:
    return CheckpointError(
        f"Another run is using the checkpoints in {folder}. Wait for it, or choose another folder."
    )


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
