"""What a page shows of an image generator: grids of what it drew before and after, of the same prompts and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amnesty.reports.drawn import DrawnGroup, DrawnRow, DrawnRun, DrawnSide, Said, in_words
from amnesty.reports.images import FEW, LARGEST, png_uri
from amnesty.reports.words import share

CONCEPTS, ASKED, KEPT, EACH = 8, 12, 8, 4
"""Concepts, prompts of all of them, kept prompts, and images of each prompt that a page shows, at most."""

ALONE = "forget"
"""The name of a concept that has none of its own, as there is no other."""


@dataclass(frozen=True)
class DrawnPicture:
    """An image; ``said`` is what a judge sees in it, ``right`` whether that is what was asked for."""

    uri: str
    small: bool  # few pixels, to be shown as squares
    alt: str
    seed: str
    said: str
    right: bool


@dataclass(frozen=True)
class DrawnCard:
    """A prompt, and a strip of images of each model: what stands one above the other has one seed.

    ``concept`` and ``instead`` are the concept that it asks for and what is to be drawn in its place, in words.
    """

    prompt: str
    concept: str
    instead: str
    strips: tuple[tuple[str, tuple[DrawnPicture, ...]], ...]


@dataclass(frozen=True)
class DrawnSection:
    """What was to be forgotten, or what is kept. Where ``veiled``, readers choose to see the images."""

    title: str
    forgotten: bool
    veiled: bool
    cards: tuple[DrawnCard, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class DrawnView:
    """All that the template needs."""

    how: str
    judged: bool  # whether there are a judge's words on single images
    judge: str
    sections: tuple[DrawnSection, ...]
    notes: tuple[str, ...]


def drawn_view(run: DrawnRun, veiled: bool = False) -> DrawnView:
    """Everything on the page about it: what was forgotten first. ``veiled`` hides its images until asked for."""
    rows = [row for group in run.groups for row in group.rows]
    sections = (_section(run, forgotten, forgotten and veiled) for forgotten in (True, False))
    return DrawnView(
        how=how_drawn(run),
        judged=any(side.said for row in rows for side in (row.before, row.after)),
        judge=run.judge,
        sections=tuple(section for section in sections if section.cards),
        notes=run.notes,
    )


def _section(run: DrawnRun, forgotten: bool, veiled: bool) -> DrawnSection:
    groups = [group for group in run.groups if group.forgotten is forgotten]
    most = max(1, ASKED // max(1, min(CONCEPTS, len(groups)))) if forgotten else KEPT
    shown = groups[:CONCEPTS]
    notes = [f"Of {len(groups)} concepts, the first {CONCEPTS} are shown."] if len(groups) > CONCEPTS else []
    return DrawnSection(
        title="To be forgotten" if forgotten else "Kept",
        forgotten=forgotten,
        veiled=veiled,
        cards=tuple(_card(group, row) for group in shown for row in group.rows[:most] if row.before.images),
        notes=(*notes, *(note for group in shown if (note := _note(group, most)))),
    )


def how_drawn(run: DrawnRun) -> str:
    """The sampler in words; empty where nothing is known of it.

    >>> how_drawn(DrawnRun("DDIMScheduler", 20, 1.5, (64, 32), ())).replace(chr(0x202f), " ")
    'DDIMScheduler, 20 steps, guidance 1.5, images 64 pixels high and 32 wide'
    """
    parts = [
        run.scheduler,
        "" if run.steps is None else f"{run.steps} step{'s' if run.steps > 1 else ''}",
        "" if run.guidance is None else f"guidance {run.guidance:g}",
        "" if run.size is None else f"images {run.size[0]} pixels high and {run.size[1]} wide",
    ]
    return ", ".join(part for part in parts if part)


def _note(group: DrawnGroup, most: int) -> str:
    """A sentence on what is not shown of a concept, where something is not."""
    shown, prompts = min(most, len(group.rows)), max(group.prompts or 0, len(group.rows))
    images = max((len(row.seeds) for row in group.rows), default=0)
    some = [f"{shown} of {prompts} prompts"] if shown < prompts else []
    some += [f"{EACH} of {images} images of each prompt"] if images > EACH else []
    whose = f"Of {group.name}" if group.forgotten and group.name != ALONE else "Here"
    return f"{whose}, {' and '.join(some)} are shown." if some and shown else ""


def _card(group: DrawnGroup, row: DrawnRow) -> DrawnCard:
    sides = (("Before", row.before), ("After", row.after))
    anchor = "no anchor was named" if group.anchor is None else f"in its place: {in_words(group.anchor)}"
    return DrawnCard(
        prompt=in_words(row.prompt),
        concept=group.name if group.forgotten and group.name != ALONE else "",
        instead=anchor if group.forgotten else "",
        strips=tuple((head, _strip(row, head, side)) for head, side in sides),
    )


def _strip(row: DrawnRow, head: str, side: DrawnSide) -> tuple[DrawnPicture, ...]:
    images, count = side.images[:EACH], min(EACH, len(side.images))
    said: Sequence[Said] = side.said or (None,) * count
    found = []
    for at, (image, told, seed) in enumerate(zip(images, said, row.seeds, strict=False), start=1):
        seen = "" if told is None else f"; the judge sees: {told[0]}"
        picture = DrawnPicture(
            uri=png_uri(image, LARGEST),
            small=max(image.shape[:2]) <= FEW,
            alt=f"{head}, {in_words(row.prompt)}, image {at} of {count}{seen}",
            seed=seed,
            said="" if told is None else told[0] if told[1] is None else f"{told[0]} {share(told[1])}",
            right=told is not None and bool(row.wanted) and told[0] == row.wanted,
        )
        found.append(picture)
    return tuple(found)
