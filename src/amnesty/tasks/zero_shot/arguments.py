"""What a zero-shot task is made of, checked before anything is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from amnesty.errors import InvalidInputError, UnknownNameError
from amnesty.tasks.base import Source
from amnesty.tasks.zero_shot.words import TEMPLATES

RetainLoss = Literal["ce", "ce_kept", "distill", "feature", "contrastive"]
ForgetLoss = Literal["auto", "uniform", "anchor", "repel"]

RETAIN_LOSSES: tuple[RetainLoss, ...] = get_args(RetainLoss)
FORGET_LOSSES: tuple[ForgetLoss, ...] = get_args(ForgetLoss)


@dataclass(frozen=True)
class Transfer:
    """Another data set, on which a model must be as good as before.

    Args:
        data: of ``(image, label)``, images as the task's.
        class_names: of its labels.
        templates: that fit its classes.
    """

    data: Source
    class_names: Sequence[str]
    templates: Sequence[str] = TEMPLATES


def parts_of(processor: Any) -> tuple[Any, Any]:
    """Return the tokenizer and the image processor. Raises `InvalidInputError` if there are none."""
    if isinstance(processor, tuple) and len(processor) == 2:
        return processor
    if hasattr(processor, "tokenizer") and hasattr(processor, "image_processor"):
        return processor.tokenizer, processor.image_processor
    raise InvalidInputError(
        "`processor` must be one of transformers, such as `CLIPProcessor.from_pretrained(folder)`, or a pair "
        f"`(tokenizer, image processor)`; found {type(processor).__name__}."
    )


def checked_losses(given: Any, pairs: Any, bank: Sequence[str]) -> tuple[RetainLoss, ...]:
    """Return the retain losses. Raises `UnknownNameError`, or `InvalidInputError` if they lack what they need."""
    if not isinstance(given, str | Sequence):
        raise InvalidInputError(f"`retain_loss` must name one or more losses, found {given!r}.")
    losses: tuple[Any, ...] = (given,) if isinstance(given, str) else tuple(given)
    for name in losses:
        if name not in RETAIN_LOSSES:
            raise UnknownNameError("retain loss", name, RETAIN_LOSSES)
    if not losses or len(set(losses)) < len(losses):
        raise InvalidInputError(f"`retain_loss` must name one or more different losses, found {given!r}.")
    if "contrastive" in losses and pairs is None:
        raise InvalidInputError("`retain_loss='contrastive'` needs `pairs`: images with captions.")
    if pairs is not None and "contrastive" not in losses:
        raise InvalidInputError("`pairs` are for `retain_loss='contrastive'`; add it, or leave them out.")
    if isinstance(bank, str) or (bank and "distill" not in losses):
        raise InvalidInputError("`bank` must list texts, for `retain_loss='distill'`.")
    return losses


def checked_anchor(forget_loss: Any, anchor: str | None, names: Sequence[str]) -> str | None:
    """Return the anchor. Raises `InvalidInputError` if it does not go with the loss, `UnknownNameError`."""
    if forget_loss not in FORGET_LOSSES:
        raise UnknownNameError("forget loss", forget_loss, FORGET_LOSSES)
    if (anchor is not None) != (forget_loss == "anchor"):
        raise InvalidInputError("`anchor` is a class name and goes with `forget_loss='anchor'`.")
    if anchor is not None and anchor not in names:
        raise UnknownNameError("class", anchor, names)
    return anchor
