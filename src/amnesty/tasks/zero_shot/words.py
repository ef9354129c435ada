"""Class names and captions as token ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from amnesty.errors import InvalidInputError, ModelError, one_line
from amnesty.tasks.base import device_of, evaluating
from amnesty.tasks.zero_shot.towers import Library

TEMPLATES = ("a photo of a {}.",)
"""What a class name is put into."""

SEVEN_TEMPLATES = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
"""The seven that serve ImageNet about as well as all eighty (the prompt-engineering notebook of OpenAI's CLIP)."""


class Reader:
    """Turns texts into token ids as a text tower takes them, padded on the right.

    Args:
        tokenizer: of transformers, or a callable of open_clip.
        library: of the model.
        towers: the model; it is tried on a text.

    Raises:
        ModelError: the tokenizer does not fit the model.
    """

    def __init__(self, tokenizer: Any, library: Library, towers: nn.Module) -> None:
        if not callable(tokenizer):
            raise InvalidInputError(f"The tokenizer must be callable, found {type(tokenizer).__name__}.")
        self._tokenizer = tokenizer
        self._context, self._vocabulary = library.context(towers), library.vocabulary(towers)
        self._end = library.end(towers)
        self._trims = True
        self._trims = self._may_trim(library, towers)

    def __deepcopy__(self, memo: dict[int, Any]) -> Reader:
        return self  # it never changes

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return the token ids of texts, shape [n, L].

        L is the context length where padding tells on the features, else that of the longest text.

        Raises:
            InvalidInputError: a text is empty, or has more tokens than the model reads.
            ModelError: a token is none of the model's.
        """
        rows = [self._row(text) for text in texts]
        length = max(map(len, rows)) if self._trims else self._context
        pad = self._pad()
        return torch.tensor([row + [pad] * (length - len(row)) for row in rows], dtype=torch.int64)

    def prompts(self, class_names: Sequence[str], templates: Sequence[str]) -> Tensor:
        """Return the token ids of each class name in each template, shape [K, T, L].

        Raises:
            InvalidInputError: there are not two class names, one occurs twice or is empty, a template has no slot,
                the tokenizer cannot tell two names apart; or as `__call__`.
        """
        names = checked_names(class_names)
        filled = [fill(template, name) for name in names for template in checked_templates(templates)]
        ids = self(filled).view(len(names), len(templates), -1)
        seen: dict[bytes, str] = {}
        for name, rows in zip(names, ids, strict=True):
            other = seen.setdefault(rows.numpy().tobytes(), name)
            if other != name:
                raise InvalidInputError(
                    f"The tokenizer cannot tell the classes {other!r} and {name!r} apart: it reads the same tokens, "
                    "most likely unknown ones."
                )
        return ids

    def _row(self, text: str) -> list[int]:
        if not isinstance(text, str) or not text.strip():
            raise InvalidInputError(f"A text must have words in it, found {text!r}.")
        found = self._tokens(text)
        if len(found) > self._context:
            raise InvalidInputError(
                f"A text has {len(found)} tokens, the model reads {self._context}: {text[:80]!r}. Shorten it."
            )
        if min(found) < 0 or max(found) >= self._vocabulary:
            raise ModelError(
                f"The tokenizer does not fit the model: of {text[:80]!r} it makes the token {max(found)}, and the "
                f"model knows {self._vocabulary}."
            )
        if self._end is not None and self._end not in found:
            raise ModelError(
                f"The tokenizer does not fit the model, which reads a text off at the token {self._end} "
                f"(`eos_token_id` of its configuration): the tokens of {text[:80]!r} are {found}."
            )
        return found

    def _tokens(self, text: str) -> list[int]:
        if hasattr(self._tokenizer, "pad_token_id"):  # of transformers
            return list(self._tokenizer([text], truncation=False, verbose=False)["input_ids"][0])
        try:
            cut = self._tokenizer([text])[0].tolist()
            encode = getattr(self._tokenizer, "encode", None)
            whole = None if encode is None else encode(text)
        except Exception as error:  # whatever a tokenizer may raise
            raise InvalidInputError(f"The tokenizer cannot read {text[:80]!r}: {one_line(error)}.") from error
        if whole is not None and len(whole) + 2 > len(cut):
            return [*cut[:1], *whole, *cut[-1:]]  # open_clip cuts what is too long; here it is an error
        return list(cut[: max(i for i, token in enumerate(cut) if token != 0) + 1]) if any(cut) else list(cut)

    def _pad(self) -> int:
        found = getattr(self._tokenizer, "pad_token_id", 0)  # open_clip pads with 0
        if found is None:
            raise ModelError("The tokenizer has no padding token: set `tokenizer.pad_token`.")
        return int(found)

    def _may_trim(self, library: Library, towers: nn.Module) -> bool:
        """Say whether padding leaves the features of a text as they are, so that short texts need no more of it."""
        short = self(["a"])
        if short.shape[1] >= self._context:
            return False
        whole = F.pad(short, (0, self._context - short.shape[1]), value=self._pad())
        with evaluating(towers):
            try:
                long = library.text(towers, whole.to(device_of(towers)))
            except (RuntimeError, IndexError, ValueError) as error:
                raise ModelError(f"The text tower cannot read a text: {one_line(error)}") from error
            try:
                found = library.text(towers, short.to(device_of(towers)))
            except RuntimeError:  # it adds all of its positions to whatever there is
                return False
        return torch.allclose(found, long, rtol=1e-3, atol=1e-4)


def fill(template: str, name: str) -> str:
    """Put a class name into a template.

    >>> fill("a photo of a {}.", "cat")
    'a photo of a cat.'
    """
    return template.replace("{label}", name).replace("{}", name)


def checked_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return class names as a tuple. Raises `InvalidInputError` unless they are two or more different words."""
    if isinstance(names, str) or not isinstance(names, Sequence) or len(names) < 2:
        raise InvalidInputError(f"`class_names` must list two or more classes, found {names!r}.")
    wrong = [name for name in names if not isinstance(name, str) or not name.strip()]
    if wrong:
        raise InvalidInputError(f"`class_names` must be words, found {wrong[0]!r}.")
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise InvalidInputError(f"`class_names` names {twice[0]!r} twice.")
    return tuple(names)


def checked_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """Return templates as a tuple. Raises `InvalidInputError` unless each has one slot, ``{}`` or ``{label}``."""
    if isinstance(templates, str) or not isinstance(templates, Sequence) or not templates:
        raise InvalidInputError(f"`templates` must list texts such as 'a photo of a {{}}.', found {templates!r}.")
    for template in templates:
        slots = template.count("{}") + template.count("{label}") if isinstance(template, str) else 0
        if slots != 1:
            raise InvalidInputError(
                f"A template must have one slot, `{{}}` or `{{label}}`, for the class name; found {template!r}."
            )
    return tuple(templates)
