"""What a diffusion task is given, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from amnesty.errors import InvalidInputError, UnknownNameError
from amnesty.seeds import derive, seeded
from amnesty.tasks.base import device_of
from amnesty.tasks.diffusion.adapters import put_adapters
from amnesty.tasks.diffusion.concepts import Concept, Prompt, check_prompt
from amnesty.tasks.diffusion.losses import FORGET_LOSSES, RETAIN_LOSSES
from amnesty.tasks.diffusion.parts import Parts
from amnesty.tasks.zero_shot.towers import shared_copy


def checked_concepts(forget: Any) -> dict[str, Concept]:
    """Return the concepts by name; raises `InvalidInputError` where one is in the way of another."""
    if isinstance(forget, Concept):
        return {"forget": forget}
    if not isinstance(forget, Mapping) or not forget or not all(isinstance(c, Concept) for c in forget.values()):
        raise InvalidInputError(f"`forget` must be an `amnesty.Concept`, or several by name; found {forget!r}.")
    found = {str(name): concept for name, concept in forget.items()}
    named: dict[Prompt, str] = {}
    for name, concept in found.items():
        for prompt in concept.asked:
            if named.setdefault(prompt, name) != name:
                raise InvalidInputError(f"{prompt!r} belongs to two concepts, {named[prompt]!r} and {name!r}.")
    for name, concept in found.items():
        if concept.anchor in named:
            raise InvalidInputError(
                f"The anchor {concept.anchor!r} of {name!r} is to be forgotten itself, by {named[concept.anchor]!r}."
            )
    return found


def check_settings(forget: Any, retain: Any, teacher: Any, eta: float, drop: float) -> None:
    """Raise `UnknownNameError` or `InvalidInputError` for what is not there, or out of range."""
    if forget not in FORGET_LOSSES:
        raise UnknownNameError("forget loss", str(forget), FORGET_LOSSES)
    if retain not in RETAIN_LOSSES:
        raise UnknownNameError("retain loss", str(retain), RETAIN_LOSSES)
    if teacher not in ("original", "current"):
        raise UnknownNameError("teacher", str(teacher), ("original", "current"))
    if not eta >= 0:
        raise InvalidInputError(f"`eta` must be at least 0, found {eta!r}.")
    if not 0 <= drop < 1:
        raise InvalidInputError(f"`prompt_drop` must be a share in [0, 1), found {drop!r}.")


def checked_size(parts: Parts, given: Any) -> tuple[int, int]:
    """Return height and width in pixels; raises `InvalidInputError` if the model cannot take them."""
    if given is None:
        return parts.size
    size = (given, given) if isinstance(given, int) else tuple(given)
    if len(size) != 2 or not all(isinstance(x, int) and x > 0 and x % parts.factor == 0 for x in size):
        raise InvalidInputError(
            f"`image_size` must be pixels, multiples of {parts.factor} for this model, found {given!r}."
        )
    return size


def prompts_in(retain: Any) -> tuple[Prompt, ...] | None:
    """Return the prompts where nothing else is given; ``None`` for a data set."""
    if isinstance(retain, str | int):
        raise InvalidInputError(f"`retain` must be a data set or several prompts, found {retain!r} alone.")
    if not isinstance(retain, list | tuple) or not all(isinstance(x, str | int) for x in retain):
        if retain is None:
            raise InvalidInputError("`retain` must say what is kept: a data set of images with prompts, or prompts.")
        return None
    if not retain:
        raise InvalidInputError("`retain` must name at least one prompt, found none.")
    for prompt in retain:
        check_prompt(prompt)
    return tuple(dict.fromkeys(retain))


def moving(
    backbone: nn.Module, group: Sequence[str], lora: int | Mapping[str, Any] | None, checkpointing: bool
) -> nn.Module:
    """Return a copy of which a group of parameters may move, or adapters on them; it shares its tensors."""
    found: Any = shared_copy(backbone)
    if lora is None:
        for name in group:
            found.get_parameter(name).requires_grad_(True)
    else:
        with seeded(derive(0, "adapters"), device_of(backbone)):  # they start at random, and alike for every task
            put_adapters(found, group, lora)
    for module in found.modules():
        if hasattr(module, "token_drop"):
            module.dropout_prob = 0.0  # a DiT would drop classes by itself, in forgetting too
    if checkpointing:
        found.enable_gradient_checkpointing()
    return found.eval()  # type: ignore[no-any-return]
