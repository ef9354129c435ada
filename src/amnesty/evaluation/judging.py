"""Whether images show what was asked for: the word of a classifier, the judge."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from amnesty.errors import InvalidInputError, UnknownNameError
from amnesty.evaluation.image_values import looked_at
from amnesty.evaluation.intervals import Interval, wilson
from amnesty.tasks.diffusion.concepts import Prompt


def shows(logits: Tensor, wanted: int, among: Sequence[int] | None = None) -> np.ndarray:
    """Say which images show a class: those for which it is the judge's likeliest, the first of several.

    Args:
        logits: of the judge, shape [n, K].
        wanted: number of the class.
        among: the classes that count, of which the likeliest is taken; ``None``: all of them.

    Returns:
        Bool, shape [n].

    >>> logits = torch.tensor([[3.0, 2.0, 1.0], [0.0, 1.0, 5.0]])
    >>> shows(logits, 1), shows(logits, 1, among=(1, 2))
    (array([False, False]), array([ True, False]))
    """
    found: np.ndarray = (_among(logits, wanted, among).argmax(dim=1) == wanted).numpy()
    return found


def probability_of(logits: Tensor, wanted: int, among: Sequence[int] | None = None) -> np.ndarray:
    """Return the probability that the judge gives a class in each image, float64, shape [n]; arguments as `shows`."""
    found: np.ndarray = _among(logits, wanted, among).softmax(dim=1)[:, wanted].numpy()
    return found


def _among(logits: Tensor, wanted: int, among: Sequence[int] | None) -> Tensor:
    classes = logits.shape[1]
    outside = [c for c in (wanted, *(among or ())) if not 0 <= c < classes]
    if outside:
        raise InvalidInputError(f"The judge knows the classes 0 to {classes - 1}, found {outside[0]}.")
    if among is None:
        return logits.double()
    if wanted not in among:
        raise InvalidInputError(f"Class {wanted} is asked for, and `among` leaves it out: {sorted(among)}.")
    left_out = torch.ones(classes, dtype=torch.bool)
    left_out[list(among)] = False
    return logits.double().masked_fill(left_out, -torch.inf)


def share(right: np.ndarray) -> Interval:
    """Return the share of images that show something, with Wilson's 95 % interval; bool, shape [n], n at least 1."""
    return wilson(int(right.sum()), len(right))


@dataclass(frozen=True, eq=False, kw_only=True)
class Judge:
    """A classifier that says what images show, and which of its classes each prompt asks for.

    Args:
        model: maps images, float32 in [0, 1], shape [B, C, H, W], to logits, shape [B, K], on its own device.
            Resizing and normalising belong into it: ``nn.Sequential(Resize(224), Normalize(...), network)``.
        classes: prompt -> number or name of the class that its images are to show; ``None`` for a kept prompt that
            asks for nothing the judge knows, whose images it then does not see.
        names: of the judge's classes. A prompt that ``classes`` does not have asks for the one whose name is in it,
            as whole words in any case; so ``"church"`` is asked for by ``"a photo of a church"``. Where a prompt is
            the number of a class, it asks for the same number.
        among: the classes, by number or name, of which the likeliest counts; ``None``: all. A judge of a thousand
            classes is often asked about ten.

    Raises:
        UnknownNameError: ``classes`` or ``among`` name a class that ``names`` does not have.
    """

    model: nn.Module
    classes: Mapping[Prompt, int | str | None] | None = None
    names: Sequence[str] | None = None
    among: Sequence[int | str] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.model, nn.Module):
            raise InvalidInputError(f"A judge must be a `torch.nn.Module`, found {type(self.model).__name__}.")
        for one in (*(self.classes or {}).values(), *(self.among or ())):
            if one is not None:
                self._number(one)

    def class_of(self, prompt: Prompt) -> int | None:
        """Return the class that a prompt asks for, ``None`` where ``classes`` says that there is none.

        Raises:
            InvalidInputError: nothing says which, or the prompt holds several names.
        """
        if self.classes is not None and prompt in self.classes:
            found = self.classes[prompt]
            return None if found is None else self._number(found)
        if isinstance(prompt, int):
            return prompt
        named = [] if self.names is None else _named(prompt, self.names)
        if len(named) == 1:
            return named[0]
        held = f"it holds the names of {len(named)} classes" if named else "it holds the name of no class"
        raise InvalidInputError(
            f"What do images of {prompt!r} show to the judge? {held if self.names else 'Nothing says so'}. Give "
            f"`Judge(model=..., classes={{{prompt!r}: ...}})` the number of its class, or `None` if there is none."
        )

    def look(self, images: Tensor, wanted: int) -> tuple[np.ndarray, np.ndarray]:
        """Return which images show a class, bool, and the probability that each does, float64; both of shape [n].

        Args:
            images: uint8, or floats in [0, 1], shape [n, C, H, W].
            wanted: number of the class.

        Raises:
            ModelError: the judge cannot take the images.
            InvalidInputError: there is no such class, or ``among`` leaves it out.
        """
        logits, among = looked_at(self.model, images, "the judge"), self.numbers_among
        return shows(logits, wanted, among), probability_of(logits, wanted, among)

    @property
    def numbers_among(self) -> list[int] | None:
        """The classes that count, by number."""
        return None if self.among is None else [self._number(one) for one in self.among]

    def _number(self, one: int | str) -> int:
        if isinstance(one, int):
            return one
        if self.names is None or one not in self.names:
            raise UnknownNameError("class of the judge", one, self.names or ())
        return list(self.names).index(one)


def _named(prompt: str, names: Sequence[str]) -> list[int]:
    """Return the classes whose names are in a text; not those whose name is only a part of another one there."""
    text = _words(prompt)
    found = [number for number, name in enumerate(names) if f" {_words(name)} " in f" {text} "]
    longest = [_words(names[number]) for number in found]
    return [
        number
        for number, own in zip(found, longest, strict=True)
        if not any(own != other and f" {own} " in f" {other} " for other in longest)
    ]


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower().replace("_", " ")))
