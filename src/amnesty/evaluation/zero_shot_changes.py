"""What the page of a run shows of a zero-shot model: some images with its answers, and which class became which."""

from __future__ import annotations

import base64
import importlib.util
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from amnesty.data import Joined, dataset_of, input_and_label
from amnesty.evaluation.two_towers import Encoded, Looked, image_hash
from amnesty.tasks.zero_shot import ZeroShot, ZeroShotClassifier
from amnesty.tasks.zero_shot.pixels import PixelValues, pixels_of

SCHEMA = 1
LONGEST = 72
"""Pixels of the longer side of a stored picture, at most."""

_ANSWERS = 5


def zero_shot_facts(
    task: ZeroShot, model: ZeroShotClassifier, *, shown: int = 8, pictures: bool = True
) -> dict[str, Any]:
    """Return the content of a run's zero_shot.json: plain data, the same whenever it is asked for.

    Pictures are taken from the ``holdout`` part alone, half of them of forgotten classes, always the first of their
    class. An image that is in the forget set, too, is never among them.

    Args:
        task: its model is the one before.
        model: the one after, such as `amnesty.unlearn` gives.
        shown: how many pictures, at most.
        pictures: whether to store any.

    Returns:
        ``schema``; ``class_names``, ``templates`` and ``forgotten`` (class names); ``parts`` of the data that were
        counted and their ``count``; ``before`` and ``after``: how often an image of one class was called
        another, ``[true, called, count]`` by number of the class, where it occurred; ``examples``, each with the
        ``label``, whether it is of a ``forgotten`` class, the ``image`` (PNG, base64) and the five likeliest labels
        ``before`` and ``after`` with their probabilities; ``notes`` on what is not shown, and why.
    """
    looked = Looked(task)
    models = {"before": Encoded(looked, task.model), "after": Encoded(looked, model)}
    parts = ("holdout",) if "holdout" in task.parts else tuple(p for p in ("retain", "forget") if p in task.parts)
    counted = task.parts[parts[0]] if len(parts) == 1 else Joined([dataset_of(task.parts[p], p) for p in parts])
    said = {}
    for when, one in models.items():
        images, labels = one.images(counted)
        said[when] = one.logits(images, task.class_names, task.templates).softmax(dim=1)
    rows, notes = _chosen(looked, labels, shown) if pictures and parts == ("holdout",) else ([], [_why(pictures)])
    names = task.class_names
    return {
        "schema": SCHEMA,
        "class_names": list(names),
        "templates": list(task.templates),
        "forgotten": [names[c] for c in looked.gone],
        "parts": list(parts),
        "count": len(labels),
        **{when: _counted(labels, found.argmax(dim=1)) for when, found in said.items()},
        "examples": [
            {
                "label": names[int(labels[row])],
                "forgotten": int(labels[row]) in looked.gone,
                "image": png(_image(task.parts["holdout"], row)),
                **{when: _likeliest(found[row], names) for when, found in said.items()},
            }
            for row in rows
        ],
        "notes": notes,
    }


def _why(pictures: bool) -> str:
    if not pictures:
        return "No pictures were asked for."
    return "There are no unseen images, and none that was trained on is shown."


def _counted(labels: Tensor, told: Tensor) -> list[list[int]]:
    pairs, counts = torch.unique(torch.stack([labels, told]), dim=1, return_counts=True)
    return [[int(true), int(other), int(n)] for (true, other), n in zip(pairs.T, counts, strict=True)]


def _likeliest(probabilities: Tensor, names: Sequence[str]) -> list[list[Any]]:
    found = probabilities.topk(min(_ANSWERS, len(names)))
    return [[names[int(c)], round(float(p), 4)] for p, c in zip(found.values, found.indices, strict=True)]


# Which pictures.


def _chosen(looked: Looked, labels: Tensor, shown: int) -> tuple[list[int], list[str]]:
    """Return rows of the unseen images, those of forgotten classes first, and notes on what is not shown."""
    source = looked.task.parts["holdout"]
    if isinstance(source, DataLoader):
        return [], ["The unseen images come from a loader: none are shown."]
    if importlib.util.find_spec("PIL") is None:
        return [], ["The package Pillow is not installed: no images are shown."]
    names, notes = looked.task.class_names, []
    known = _forgotten_images(looked.task)
    by_class = {c: _of_class(source, labels, c, shown, known) for c in range(len(names))}
    absent = [names[c] for c in looked.gone if not by_class[c]]
    if absent:
        notes.append(f"No unseen images of {', '.join(absent)}: none are shown of what was forgotten.")
    gone = [c for c in looked.gone if by_class[c]]
    kept = [c for c in looked.kept if by_class[c]]
    half = shown // 2
    return [row for side in (gone, kept) for row in _dealt([by_class[c] for c in _spread(side, half)], half)], notes


def _of_class(source: Any, labels: Tensor, c: int, most: int, known: set[bytes]) -> list[int]:
    """Return the first rows of a class whose images are none of ``known``."""
    found: list[int] = []
    for row in (labels == c).nonzero()[:, 0].tolist():
        if len(found) == most:
            break
        if image_hash(_image(source, row)) not in known:
            found.append(row)
    return found


def _spread(classes: Sequence[int], most: int) -> list[int]:
    """Return as many of the classes, from the first to the last."""
    at = np.linspace(0, len(classes) - 1, min(most, len(classes))).round().astype(int)
    return [classes[i] for i in at]


def _dealt(rows: Sequence[Sequence[int]], most: int) -> list[int]:
    """Return the first row of each class, then the second of each, and so on."""
    deepest = max(map(len, rows), default=0)
    return [each[k] for k in range(deepest) for each in rows if k < len(each)][:most]


def _forgotten_images(task: ZeroShot) -> set[bytes]:
    forget: Any = dataset_of(task.parts["forget"], "forget")
    parts: list[Any] = list(forget.datasets) if isinstance(forget, Joined) else [forget]
    return {image_hash(_image(part, row)) for part in parts for row in range(len(part))}


def _image(source: Any, row: int) -> Any:
    """Return an image as the data set has it."""
    pixels = pixels_of(source)
    if isinstance(pixels, PixelValues):
        return pixels.read([row])[0][0]
    return input_and_label(pixels[row])[0]


def png(image: Any) -> str:
    """Return an image as a small PNG, base64.

    Args:
        image: of PIL, or a tensor of shape [3, H, W] or [1, H, W]: uint8, or floats in [0, 1]; other floats, such as
            normalised pixels, are stretched to that.
    """
    from PIL import Image

    picture = Image.fromarray(_pixels(image)) if isinstance(image, Tensor) else image.convert("RGB")
    if max(picture.size) > LONGEST:
        picture = picture.copy()
        picture.thumbnail((LONGEST, LONGEST))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _pixels(image: Tensor) -> np.ndarray:
    values = image.detach().cpu()
    if values.is_floating_point():
        low, high = float(values.min()), float(values.max())
        if low < 0 or high > 1:
            values = (values - low) / max(high - low, 1e-9)
        values = (values * 255).round().to(torch.uint8)
    found: np.ndarray = values.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
    return found
