"""drawn.json, checked: what an image generator drew for the same prompts and seeds, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from amnesty.reports.check import Checker
from amnesty.reports.images import checked_image
from amnesty.reports.read import parse_json, read_text

DRAWN, SCHEMA = "drawn.json", 1
SIDES = ("before", "after")

Said = tuple[str, float | None] | None
"""What a judge sees first in an image, and how sure it is; nothing where it was not asked."""


@dataclass(frozen=True, eq=False)
class DrawnSide:
    """What one model drew for a prompt: images [H, W, 3] and, if a judge's words are known, one of each."""

    images: tuple[NDArray[np.uint8], ...]
    said: tuple[Said, ...] = ()


@dataclass(frozen=True, eq=False)
class DrawnRow:
    """A prompt (a number is that of a class), the seeds, and what both models drew of these.

    ``wanted`` is what the judge should see, in its own words; empty where that is not known.
    """

    prompt: str | int
    seeds: tuple[str, ...]
    before: DrawnSide
    after: DrawnSide
    wanted: str = ""


@dataclass(frozen=True, eq=False)
class DrawnGroup:
    """A concept, or what is kept. ``prompts`` is how many there are in all, where that is known."""

    name: str
    forgotten: bool
    anchor: str | int | None
    rows: tuple[DrawnRow, ...]
    prompts: int | None = None


@dataclass(frozen=True, eq=False)
class DrawnRun:
    """The content of a run's drawn.json, and so how it was drawn: sampler, steps, guidance, height and width."""

    scheduler: str
    steps: int | None
    guidance: float | None
    size: tuple[int, int] | None
    groups: tuple[DrawnGroup, ...]
    judge: str = ""
    notes: tuple[str, ...] = ()

    @property
    def concepts(self) -> tuple[str, ...]:
        """The names of what is forgotten."""
        return tuple(group.name for group in self.groups if group.forgotten)


def read_drawn(path: Path) -> DrawnRun | None:
    """Read drawn.json; ``None`` where there is none.

    Raises:
        ReportError: the file cannot be read, is of another schema, or holds other values than it should.
    """
    return parse_drawn(parse_json(read_text(path), path), str(path)) if path.is_file() else None


def parse_drawn(content: object, where: str) -> DrawnRun:
    """Check the content of a drawn.json. Raises `ReportError` as `read_drawn`."""
    check = Checker(where)
    data = check.file(content, SCHEMA)
    listed = enumerate(check.entries(data.get("groups"), "groups"))
    found = DrawnRun(
        scheduler=check.text(data.get("scheduler"), "scheduler"),
        steps=_count(check, data.get("steps"), "steps"),
        guidance=check.number(data.get("guidance"), "guidance"),
        size=_size(check, data.get("size")),
        groups=tuple(_group(check, entry, f"groups[{at}]") for at, entry in listed),
        judge=check.text(data.get("judge"), "judge"),
        notes=tuple(check.text(note, "notes") for note in check.entries(data.get("notes"), "notes")),
    )
    check.finish()
    return found


def _size(check: Checker, value: object) -> tuple[int, int] | None:
    if value is None:
        return None
    sides = check.entries(value, "size")
    if len(sides) == 2 and all(type(side) is int and 0 < side < 2**20 for side in sides):
        return sides[0], sides[1]
    check.fault("size", "height and width in pixels", value)
    return None


def _count(check: Checker, value: object, name: str) -> int | None:
    if value is None or (type(value) is int and value > 0):
        return value
    check.fault(name, "a whole number above 0", value)
    return None


def _group(check: Checker, content: object, name: str) -> DrawnGroup:
    data = check.mapping(content, name)
    if not isinstance(data.get("forgotten"), bool):
        check.fault(f"{name}.forgotten", "true or false", data.get("forgotten"))
    anchor = data.get("anchor")
    listed = enumerate(check.entries(data.get("rows"), f"{name}.rows"))
    return DrawnGroup(
        name=check.text(data.get("name"), f"{name}.name"),
        forgotten=bool(data.get("forgotten")),
        anchor=None if anchor is None else _prompt(check, anchor, f"{name}.anchor"),
        rows=tuple(_row(check, entry, f"{name}.rows[{at}]") for at, entry in listed),
        prompts=_count(check, data.get("prompts"), f"{name}.prompts"),
    )


def _prompt(check: Checker, value: object, name: str) -> str | int:
    if isinstance(value, str) or (type(value) is int and value >= 0):
        return value
    check.fault(name, "a prompt, or the number of a class", value)
    return ""


def _row(check: Checker, content: object, name: str) -> DrawnRow:
    data = check.mapping(content, name)
    seeds = tuple(check.text(seed, f"{name}.seeds") for seed in check.entries(data.get("seeds"), f"{name}.seeds"))
    judged = check.mapping(data.get("judged"), f"{name}.judged")
    sides = [_side(check, data.get(when), judged.get(when), name, when) for when in SIDES]
    for when, side in zip(SIDES, sides, strict=True):
        if len(side.images) not in {0, len(seeds)} or len(side.images) != len(sides[0].images):
            check.fault(f"{name}.{when}", f"an image of each of the {len(seeds)} seeds", data.get(when))
    prompt = _prompt(check, data.get("prompt"), f"{name}.prompt")
    return DrawnRow(
        prompt, seeds, sides[0], sides[1], wanted=check.text(judged.get("wanted"), f"{name}.judged.wanted")
    )


def _side(check: Checker, images: object, said: object, name: str, when: str) -> DrawnSide:
    """One side; a file without pictures leaves the images out."""
    listed = [] if images is None else check.entries(images, f"{name}.{when}")
    shown = tuple(checked_image(check, one, f"{name}.{when}") for one in listed)
    if said is None:
        return DrawnSide(shown)
    words = check.entries(said, f"{name}.judged.{when}")
    if len(words) != len(shown):
        check.fault(f"{name}.judged.{when}", f"an answer for each of the {len(shown)} images", said)
    return DrawnSide(shown, tuple(_said(check, one, f"{name}.judged.{when}") for one in words))


def _said(check: Checker, pair: object, name: str) -> Said:
    if pair is None:
        return None
    if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
        check.fault(name, "null or [label, probability]", pair)
        return None
    share = check.number(pair[1], name, 0.0, 1.001, "a probability in [0, 1]")
    return check.text(pair[0], name), None if share is None else min(1.0, share)


_LONG = 200  # letters of a prompt, of which the rest is left out


def in_words(prompt: str | int) -> str:
    """A prompt as people read it.

    >>> in_words(3), in_words("a cat")
    ('class 3', '“a cat”')
    """
    if isinstance(prompt, int):
        return f"class {prompt}"
    return f"“{prompt}”" if len(prompt) <= _LONG else f"“{prompt[:_LONG]}…”"
