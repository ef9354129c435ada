"""What a page shows of a zero-shot model: some images with its answers, and which class became which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from amnesty.reports.check import Checker
from amnesty.reports.images import FEW, checked_image, png_uri
from amnesty.reports.read import parse_json, read_text
from amnesty.reports.words import percent, points
from amnesty.reports.zero_shot_figure import Changes, changes_figure

if TYPE_CHECKING:
    from markupsafe import Markup

ZERO_SHOT, SCHEMA = "zero_shot.json", 1
MOST = 40
"""Classes that the matrix shows by themselves, at most; the others are joined."""

_TOLD = 5  # forgotten classes that get a sentence


@dataclass(frozen=True, eq=False)
class Picture:
    """An image of a class, and the likeliest labels with their probabilities."""

    label: str
    forgotten: bool
    image: NDArray[np.uint8]  # [H, W, 3]
    before: tuple[tuple[str, float], ...]
    after: tuple[tuple[str, float], ...]


@dataclass(frozen=True, eq=False)
class ZeroShotRun:
    """The content of a run's zero_shot.json; see `amnesty.evaluation.zero_shot.zero_shot_facts`."""

    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    forgotten: tuple[str, ...]
    parts: tuple[str, ...]
    before: NDArray[np.int64]  # [m, 3]: true class, class called, how often
    after: NDArray[np.int64]
    pictures: tuple[Picture, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Likely:
    """One label that a model gives an image; width in percent of the track."""

    label: str
    text: str
    width: float
    true: bool


@dataclass(frozen=True)
class PictureView:
    """An image with its likeliest labels before and after."""

    uri: str
    small: bool  # few pixels, to be shown as squares
    alt: str
    label: str
    forgotten: bool
    before: tuple[Likely, ...]
    after: tuple[Likely, ...]


@dataclass(frozen=True)
class ZeroShotView:
    """All that the template needs."""

    templates: tuple[str, ...]
    pictures: tuple[PictureView, ...]
    notes: tuple[str, ...]
    counted: str
    joined: int
    sentences: tuple[str, ...]
    matrix: Markup


def read_zero_shot(path: Path) -> ZeroShotRun | None:
    """Read zero_shot.json; ``None`` where there is none.

    Raises:
        ReportError: the file cannot be read, is of another schema, or holds other values than it should.
    """
    return parse_zero_shot(parse_json(read_text(path), path), str(path)) if path.is_file() else None


def parse_zero_shot(content: object, where: str) -> ZeroShotRun:
    """Check the content of a zero_shot.json. Raises `ReportError` as `read_zero_shot`."""
    check = Checker(where)
    data = check.file(content, SCHEMA)
    names = _texts(check, data, "class_names")
    if len(set(names)) < max(2, len(names)):
        check.fault("class_names", "two or more different names", list(names))
    forgotten = _texts(check, data, "forgotten")
    for name in set(forgotten) - set(names):
        check.fault("forgotten", "some of `class_names`", name)
    told = {when: _counts(check, data.get(when), when, len(names)) for when in ("before", "after")}
    sides = [_images_by_class(t, len(names)) for t in told.values()]
    if not check.faults and not np.array_equal(sides[0], sides[1]):
        check.fault("after", "of as many images of each class as `before`", data.get("after"))
    listed = check.entries(data.get("examples"), "examples")
    found = ZeroShotRun(
        names,
        _texts(check, data, "templates"),
        forgotten,
        _texts(check, data, "parts"),
        told["before"],
        told["after"],
        tuple(_picture(check, entry, f"examples[{at}]") for at, entry in enumerate(listed)),
        _texts(check, data, "notes"),
    )
    check.finish()
    return found


def _texts(check: Checker, data: Mapping[str, Any], name: str) -> tuple[str, ...]:
    return tuple(check.text(text, name) for text in check.entries(data.get(name), name))


def _counts(check: Checker, value: object, name: str, classes: int) -> NDArray[np.int64]:
    rows = check.entries(value, name)
    expected = f"a list of [true class, class called, count], classes below {classes} and counts above 0"
    for row in rows:
        whole = isinstance(row, list) and len(row) == 3 and all(type(n) is int for n in row)
        if not whole or not (0 <= row[0] < classes and 0 <= row[1] < classes and 0 < row[2] < 2**48):
            check.fault(name, expected, row)
            return np.zeros((0, 3), dtype=np.int64)
    if not rows:
        check.fault(name, expected, value)
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def _images_by_class(told: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    found = np.zeros(classes, dtype=np.int64)
    np.add.at(found, told[:, 0], told[:, 2])
    return found


def _picture(check: Checker, content: object, name: str) -> Picture:
    data = check.mapping(content, name)
    sides = (_likely(check, data.get(when), f"{name}.{when}") for when in ("before", "after"))
    label = check.text(data.get("label"), f"{name}.label")
    return Picture(
        label, bool(data.get("forgotten")), checked_image(check, data.get("image"), f"{name}.image"), *sides
    )


def _likely(check: Checker, value: object, name: str) -> tuple[tuple[str, float], ...]:
    found = []
    for pair in check.entries(value, name):
        if not isinstance(pair, list) or len(pair) != 2:
            check.fault(name, "a list of [label, probability]", pair)
            continue
        share = check.number(pair[1], name, 0.0, 1.001, "a probability in [0, 1]")
        found.append((check.text(pair[0], name), min(1.0, share or 0.0)))
    return tuple(found)


# What of it is shown.


def zero_shot_view(run: ZeroShotRun, name: str = "classes") -> ZeroShotView:
    """Everything on the page about it. ``name`` is a plain word, unique on the page."""
    from markupsafe import Markup

    changes = class_changes(run)
    svg, width = changes_figure(changes, name)
    return ZeroShotView(
        templates=run.templates,
        pictures=tuple(_picture_view(picture) for picture in run.pictures),
        notes=run.notes,
        counted="unseen images" if run.parts == ("holdout",) else f"images of {' and '.join(run.parts)}",
        joined=len(run.class_names) - MOST + 1 if len(run.class_names) > MOST else 0,
        sentences=tuple(_sentences(changes)),
        matrix=Markup(
            svg.replace("<svg ", f'<svg style="min-width: {0.75 * width:.0f}px; max-width: {width}px" ', 1)
        ),
    )


def class_changes(run: ZeroShotRun) -> Changes:
    """The shares of each class's images that are called each class, before and after, at most `MOST` wide.

    Where there are more classes, those that are forgotten and those that changed most stand by themselves.
    """
    classes = len(run.class_names)
    gone = [run.class_names.index(name) for name in run.forgotten]
    names, place = run.class_names, np.arange(classes)
    if classes > MOST:
        moved = np.zeros(classes)
        for sign, told in ((1, run.after), (-1, run.before)):
            np.add.at(moved, told[told[:, 0] == told[:, 1], 0], sign * told[told[:, 0] == told[:, 1], 2])
        order = np.argsort(-np.abs(moved) - np.where(np.isin(place, gone), np.inf, 0), kind="stable")
        alone = np.sort(order[: MOST - 1])
        place = np.full(classes, MOST - 1)
        place[alone] = np.arange(MOST - 1)
        names = (*(names[c] for c in alone), f"{classes - MOST + 1} others")
    shares = [_shares(told, place, len(names)) for told in (run.before, run.after)]
    return Changes(tuple(names), tuple(n in run.forgotten for n in names), *shares)


def _shares(told: NDArray[np.int64], place: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    """By class of the images, the share that is called each class; NaN where there is no image."""
    found = np.zeros((size, size))
    np.add.at(found, (place[told[:, 0]], place[told[:, 1]]), told[:, 2])
    images = found.sum(axis=1, keepdims=True)
    return np.where(images > 0, found / np.maximum(images, 1), np.nan)


def _sentences(changes: Changes) -> list[str]:
    """What became of the forgotten classes, and how the others fared."""
    found = []
    for at in np.flatnonzero(changes.forgotten)[:_TOLD].tolist():
        before, after = changes.before[at], changes.after[at]
        if np.isnan(before).any():
            continue
        other = max((c for c in range(len(after)) if c != at), key=lambda c: after[c])
        found.append(
            f"Images of {changes.names[at]} were called that in {percent(before[at])} of cases before and are in "
            f"{percent(after[at])} after; the most frequent other name is now {changes.names[other]} "
            f"({percent(after[other])}, {percent(before[other])} before)."
        )
    kept = [at for at in np.flatnonzero(~np.array(changes.forgotten)) if not np.isnan(changes.before[at]).any()]
    if kept:
        moved = {at: float(changes.after[at, at] - changes.before[at, at]) for at in kept}
        worst = min(moved, key=lambda at: moved[at])
        found.append(
            f"Of the kept classes, {changes.names[worst]} lost most: {points(moved[worst])} points."
            if moved[worst] < 0
            else "None of the kept classes is recognised less often than before."
        )
    return found


def _picture_view(picture: Picture) -> PictureView:
    said = [side[0][0] if side else "nothing" for side in (picture.before, picture.after)]
    kind = "forgotten" if picture.forgotten else "kept"
    return PictureView(
        uri=png_uri(picture.image),
        small=max(picture.image.shape[:2]) <= FEW,
        alt=f"An unseen image of a {kind} class, {picture.label}. Before: {said[0]}; after: {said[1]}",
        label=picture.label,
        forgotten=picture.forgotten,
        before=_shown(picture.before, picture.label),
        after=_shown(picture.after, picture.label),
    )


def _shown(likely: Sequence[tuple[str, float]], true: str) -> tuple[Likely, ...]:
    return tuple(Likely(label, percent(share), round(100 * share, 2), label == true) for label, share in likely)
