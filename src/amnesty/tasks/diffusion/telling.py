"""What models are told of prompts: texts through the pipeline's own encoders, or numbers of classes."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from amnesty.errors import InvalidInputError, ModelError, one_line
from amnesty.tasks.base import device_of
from amnesty.tasks.diffusion.concepts import Prompt
from amnesty.tasks.diffusion.parts import Parts

Asked = Sequence[Prompt] | None
_AT_ONCE = 32  # prompts


def labels(parts: Parts, prompts: Asked, size: tuple[int, int]) -> dict[str, Tensor]:
    """Return numbers of classes, shape [n]; of none the class that stands for no class.

    Raises:
        InvalidInputError: a prompt is a text, or a number that is no class of the model.
    """
    config = parts.backbone.config
    null = config.num_embeds_ada_norm if "num_embeds_ada_norm" in config else config.num_class_embeds - 1
    if prompts is None:
        return {"labels": torch.tensor([null])}
    for prompt in prompts:
        if not isinstance(prompt, int):
            raise InvalidInputError(f"This model knows classes, not texts: give numbers, found {prompt!r}.")
        if not 0 <= prompt < null:
            raise InvalidInputError(
                f"Class {prompt} does not exist: the model knows 0 to {null - 1}, and {null} stands for no class."
            )
    return {"labels": torch.tensor(list(prompts))}


def clip(parts: Parts, prompts: Asked, size: tuple[int, int]) -> dict[str, Tensor]:
    """Return hidden states, shape [n, L, d], as Stable Diffusion 1 and 2 read them."""
    encoder, tokenizer = parts.part("text_encoder"), parts.part("tokenizer")
    if encoder is None or tokenizer is None:
        raise ModelError("The generator reads texts, but has no `text_encoder` and `tokenizer`.")
    hidden = []
    for texts in _blocks([""] if prompts is None else prompts):
        ids = _ids(tokenizer, texts)
        try:
            hidden.append(encoder(input_ids=ids.to(device_of(encoder))).last_hidden_state.float().cpu())
        except (RuntimeError, IndexError) as error:
            raise ModelError(f"The text encoder cannot read the prompts: {one_line(error)}") from error
    return {"hidden": torch.cat(hidden)}


def sdxl(parts: Parts, prompts: Asked, size: tuple[int, int]) -> dict[str, Tensor]:
    """Return hidden states, the pooled one, shape [n, p], and sizes, shape [n, 6]."""
    for name in ("tokenizer", "tokenizer_2"):
        _check_lengths(parts.part(name), prompts)
    told = _through_pipeline(parts, prompts, ("hidden", "pooled"))
    sizes = torch.tensor([[*size, 0, 0, *size]], dtype=torch.float32)
    return {**told, "time_ids": sizes.expand(len(told["hidden"]), -1).contiguous()}


def pixart(parts: Parts, prompts: Asked, size: tuple[int, int]) -> dict[str, Tensor]:
    """Return hidden states and the mask of what is no padding, shape [n, L]."""
    encode: Any = getattr(parts.given, "encode_prompt", None)
    if encode is not None:  # its tokenizer may know longer texts
        _check_lengths(
            parts.part("tokenizer"), prompts, inspect.signature(encode).parameters["max_sequence_length"].default
        )
    told = _through_pipeline(parts, prompts, ("hidden", "mask"))
    if getattr(parts.backbone, "use_additional_conditions", False):  # trained on many sizes
        rows = len(told["hidden"])
        told["resolution"] = torch.tensor([size], dtype=torch.float32).repeat(rows, 1)
        told["aspect_ratio"] = torch.tensor([[size[0] / size[1]]]).repeat(rows, 1)
    return told


def sd3(parts: Parts, prompts: Asked, size: tuple[int, int]) -> dict[str, Tensor]:
    """Return hidden states and the pooled one."""
    for name in ("tokenizer", "tokenizer_2"):
        _check_lengths(parts.part(name), prompts)
    return _through_pipeline(parts, prompts, ("hidden", "pooled"))


def _through_pipeline(parts: Parts, prompts: Asked, names: tuple[str, str]) -> dict[str, Tensor]:
    """Encode by the pipeline's own ``encode_prompt``, which returns (what, what of no prompt) or pairs of both."""
    encode: Any = getattr(parts.given, "encode_prompt", None)
    if encode is None:
        raise ModelError(
            f"A {type(parts.backbone).__name__} needs the whole pipeline, whose `encode_prompt` knows all its "
            f"encoders; found {type(parts.given).__name__}."
        )
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    device = device_of(parts.part("text_encoder")) if parts.part("text_encoder") is not None else None
    further = {"prompt_2": None, "prompt_3": None} if names[1] == "pooled" and parts.name == "transformer" else {}
    for texts in _blocks([""] if prompts is None else prompts):
        try:
            said = encode(prompt=texts, **further, device=device, do_classifier_free_guidance=True)
        except (RuntimeError, ValueError, AttributeError) as error:
            raise ModelError(f"The pipeline cannot encode the prompts: {one_line(error)}") from error
        # Of SDXL and SD3: hidden, hidden of none, pooled, pooled of none; of PixArt: hidden, mask, and both of none.
        positive, negative = ((0, 2), (1, 3)) if names[1] == "pooled" else ((0, 1), (2, 3))
        for name, k in zip(names, negative if prompts is None else positive, strict=True):
            found[name].append(said[k].float().cpu())
    return {name: torch.cat(each) for name, each in found.items()}


def _blocks(prompts: Sequence[Prompt]) -> list[list[str]]:
    for prompt in prompts:
        if not isinstance(prompt, str):
            raise InvalidInputError(
                f"This model reads texts, found the class {prompt!r}: give texts, or `captions` that say what "
                "classes are called."
            )
    texts = [str(prompt) for prompt in prompts]
    return [texts[k : k + _AT_ONCE] for k in range(0, len(texts), _AT_ONCE)]


def _ids(tokenizer: Any, texts: list[str]) -> Tensor:
    _check_lengths(tokenizer, texts)
    found: Tensor = tokenizer(
        texts, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    )["input_ids"]
    return found


def _check_lengths(tokenizer: Any, prompts: Asked, longest: int | None = None) -> None:
    """Refuse texts of which the model would read a part only."""
    if tokenizer is None:
        return
    most = longest or tokenizer.model_max_length
    for text in prompts or ():
        count = len(tokenizer(str(text))["input_ids"])
        if count > most:
            raise InvalidInputError(f"The model reads {most} tokens at most, but {str(text)[:60]!r} has {count}.")
