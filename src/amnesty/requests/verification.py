"""What checking a run's folder gave."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from amnesty.requests.digests import AUDIT


@dataclass(frozen=True)
class Verification:
    """What checking a run's folder gave.

    Attributes:
        folder: that was checked.
        sha256: of audit.json, to be noted elsewhere: whoever knows it needs no signature.
        problems: a line each, with the file and what is wrong with it; empty where everything holds.
        checked: what was looked at.
        unchecked: what was not, and why.
    """

    folder: Path
    sha256: str | None
    problems: tuple[str, ...]
    checked: tuple[str, ...]
    unchecked: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether everything that was looked at holds."""
        return not self.problems

    @property
    def text(self) -> str:
        """All of it for the terminal, without markup."""
        lines = [
            *(f"  checked      {line}" for line in self.checked),
            *(f"  not checked  {line}" for line in self.unchecked),
            *(f"  PROBLEM      {line}" for line in self.problems),
        ]
        count = len(self.problems)
        said = "Everything that was checked holds." if self.ok else f"{count} problem{'s' if count > 1 else ''}."
        noted = "" if self.sha256 is None else f" SHA-256 of {AUDIT}: {self.sha256}"
        return "\n".join([str(self.folder), *lines, said + noted])


@dataclass
class Notes:
    """A `Verification` in the making."""

    problems: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    def found(self, what: str, problems: Iterable[str] = ()) -> None:
        """Note that something was looked at, and what was wrong with it."""
        self.checked.append(what)
        self.problems += problems

    def done(self, folder: Path, sha256: str | None) -> Verification:
        """Return what was noted."""
        return Verification(folder, sha256, tuple(self.problems), tuple(self.checked), tuple(self.unchecked))
