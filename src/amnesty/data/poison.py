"""Wrong labels planted on purpose, so that forgetting them can be seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from amnesty.data.examples import read_column
from amnesty.data.together import WithLabels
from amnesty.errors import DataError, SplitError
from amnesty.seeds import derive, generator


def mislabel(labels: Tensor, classes: int, seed: int = 0) -> Tensor:
    """Return a wrong label for each example, uniform over the other ``classes - 1``, shape [n].

    Raises:
        DataError: fewer than two classes, or labels outside them.

    Example:
        >>> wrong = mislabel(torch.tensor([0, 1, 2]), classes=3)
        >>> (wrong != torch.tensor([0, 1, 2])).all().item()
        True
    """
    if classes < 2 or bool(((labels < 0) | (labels >= classes)).any()):
        raise DataError(f"Wrong labels need at least 2 classes and labels in [0, {classes}).")
    shift = torch.randint(1, classes, labels.shape, generator=generator(seed, "mislabel"))
    return (labels + shift) % classes


@dataclass(frozen=True)
class Canaries:
    """Training examples with wrong labels, and their like that no model was trained on.

    A wrong label can only be known by heart. So a membership test on canaries sees what is remembered where one on
    ordinary examples, which a model gets right without having met them, sees nothing.

    Attributes:
        training: what to train on: the data set, canaries under wrong labels, the others as they were.
        indices: of the canaries in ``training``, sorted, shape [k].
        members: the canaries alone, to be forgotten. others: the rest of ``training``.
        nonmembers: as many unseen examples under wrong labels drawn alike, to compare with.
    """

    training: Dataset[Any]
    indices: np.ndarray
    members: Dataset[Any]
    others: Dataset[Any]
    nonmembers: Dataset[Any]


def plant_canaries(
    training: Dataset[Any], unseen: Dataset[Any], count: int, classes: int, *, seed: int = 0
) -> Canaries:
    """Choose canaries among ``training`` and their like among ``unseen``, before the model is trained.

    Args:
        training: labelled examples that the model will be trained on.
        unseen: examples that it will never see; ``count`` of them, drawn at random, become non-members.
        count: of canaries. 100 tell a model that knows them by heart from one that does not with certainty; see
            docs/evaluation.md for the power of fewer.
        classes: number of classes C; wrong labels are uniform over the other C - 1.
        seed: of the choice and of the labels.

    Raises:
        SplitError: fewer than ``count`` examples on a side, ``count`` below 1, or both sides are one data set.
        DataError: labels outside the classes, or no labels found.

    Example:
        >>> from amnesty.data import Examples
        >>> images, labels = torch.rand(20, 1, 2, 2), torch.arange(20) % 4
        >>> planted = plant_canaries(Examples(images[:15], labels[:15]), Examples(images[15:], labels[15:]), 3, 4)
        >>> len(planted.members), len(planted.nonmembers), len(planted.training), len(planted.others)
        (3, 3, 15, 12)
    """
    sides = {"training": training, "unseen": unseen}
    if training is unseen:
        raise SplitError("`training` and `unseen` are the same data set: its examples cannot be both.")
    sizes = {name: len(data) for name, data in sides.items()}  # type: ignore[arg-type]
    if not 1 <= count <= min(sizes.values()):
        raise SplitError(f"`count` must be from 1 to {min(sizes.values())}, found {count} for {sizes}.")
    chosen = {name: _choice(size, count, derive(seed, "canaries", name)) for name, size in sizes.items()}
    wrong = {name: _mislabelled(data, chosen[name], classes, derive(seed, name)) for name, data in sides.items()}
    rest = np.setdiff1d(np.arange(sizes["training"]), chosen["training"])
    return Canaries(
        wrong["training"],
        chosen["training"],
        Subset(wrong["training"], chosen["training"].tolist()),
        Subset(wrong["training"], rest.tolist()),
        Subset(wrong["unseen"], chosen["unseen"].tolist()),
    )


def _choice(size: int, count: int, seed: int) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).choice(size, count, replace=False))


def _mislabelled(data: Dataset[Any], chosen: np.ndarray, classes: int, seed: int) -> WithLabels:
    labels = torch.as_tensor(read_column(data, "label").astype(np.int64)).clone()
    labels[chosen] = mislabel(labels[chosen], classes, seed)
    return WithLabels(data, labels)
