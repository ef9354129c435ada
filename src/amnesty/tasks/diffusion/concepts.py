"""What an image generator must forget, and what it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Dataset

from amnesty.errors import InvalidInputError

Prompt = str | int
"""What an image is drawn for: a text, or the number of a class where the model knows classes."""


@dataclass(frozen=True, eq=False)
class Concept:
    """What a generator must no longer draw; each is a player.

    Args:
        prompts: one or several that ask for it, such as ``"a photo of the digit three"``; of a class-conditional
            model the number of the class. Training draws one of them for each image anew.
        anchor: the prompt whose images are to be drawn instead; not needed by every objective.
        images: a data set of images of it: PIL images, uint8 ``[C, H, W]``, or floats in [0, 1]; labels beside them
            are not read. ``None``: the original draws them.

    Raises:
        InvalidInputError: a prompt that is empty, or none; an anchor that is to be forgotten itself.
    """

    prompts: Prompt | Sequence[Prompt]
    anchor: Prompt | None = None
    images: Dataset[Any] | None = None

    def __post_init__(self) -> None:
        several = isinstance(self.prompts, Iterable) and not isinstance(self.prompts, str)
        given = tuple(self.prompts) if several else (self.prompts,)  # type: ignore[arg-type]
        if not given:
            raise InvalidInputError("A concept needs at least one prompt, found none.")
        for prompt in (*given, *(() if self.anchor is None else (self.anchor,))):
            check_prompt(prompt)
        if self.anchor in given:
            raise InvalidInputError(f"{self.anchor!r} is to be forgotten, and cannot be the anchor too.")
        object.__setattr__(self, "prompts", tuple(dict.fromkeys(given)))

    @property
    def asked(self) -> tuple[Prompt, ...]:
        """The prompts, each once."""
        assert isinstance(self.prompts, tuple)
        return self.prompts


def check_prompt(prompt: Any) -> None:
    """Raise `InvalidInputError` unless ``prompt`` is a text that is not blank, or the number of a class."""
    if isinstance(prompt, bool) or not isinstance(prompt, str | int):
        raise InvalidInputError(f"A prompt must be a text or the number of a class, found {prompt!r}.")
    if isinstance(prompt, str) and not prompt.strip():
        raise InvalidInputError(
            f"A prompt must not be empty, found {prompt!r}: an empty one asks for anything, and guidance needs it."
        )
    if isinstance(prompt, int) and prompt < 0:
        raise InvalidInputError(f"Classes are counted from 0, found {prompt}.")
