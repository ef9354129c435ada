"""What is wrong with a request: every fault, with the line it stands in."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from amnesty.errors import InvalidInputError

_SHOWN = 50


class RequestError(InvalidInputError):
    """A request with faults.

    Attributes:
        faults: one line each, in the order of the file, such as
            ``request.yaml:12: `method.epochs` must be a whole number of at least 1, found 0.``
    """

    def __init__(self, message: str, faults: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.faults = faults or (message,)


@dataclass(frozen=True)
class Origin:
    """Where a part of a request was written.

    Attributes:
        said: name for people: the file, or the option of the command line.
        folder: what relative paths in it are relative to.
        rank: faults of an origin of lower rank come first.
        lined: whether it has lines.
    """

    said: str
    folder: Path
    rank: int = 0
    lined: bool = True


@dataclass(frozen=True)
class Place:
    """A line of an origin, counted from 1."""

    origin: Origin
    line: int = 1

    def __str__(self) -> str:
        return f"{self.origin.said}:{self.line}" if self.origin.lined else self.origin.said


@dataclass
class Faults:
    """Collects faults, so that all can be named at once."""

    found: list[tuple[Place, str]] = field(default_factory=list)

    def add(self, place: Place, text: str) -> None:
        """Note a fault: a sentence, without the place."""
        self.found.append((place, text))

    def __len__(self) -> int:
        return len(self.found)

    def refuse(self) -> None:
        """Raise `RequestError` if there is any fault."""
        if not self.found:
            return
        inorder = sorted(self.found, key=lambda one: (one[0].origin.rank, one[0].line))
        lines = tuple(dict.fromkeys(_line(f"{place}: {text}") for place, text in inorder))
        if len(lines) == 1:
            raise RequestError(lines[0], lines)
        more = [f"... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        raise RequestError("\n  ".join([f"The request has {len(lines)} faults:", *lines[:_SHOWN], *more]), lines)


def _line(text: str) -> str:
    """Return one line that a terminal shows as it is, whatever keys and errors of libraries hold."""
    return "".join(letter if letter.isprintable() else " " for letter in " ".join(text.splitlines()))
