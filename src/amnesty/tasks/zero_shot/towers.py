"""Two towers, one for text and one for images: what libraries call their parts, and how they are asked."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from amnesty.errors import InvalidInputError, ModelError, UnknownNameError

Group = Literal["text_attention", "image_attention", "attention", "text", "image", "projections", "all"]
"""Parameters that may move; ``"text"`` and ``"image"`` are a whole tower with its projection."""

GROUPS: tuple[Group, ...] = get_args(Group)


@dataclass(frozen=True)
class Library:
    """How the models of one library are asked; it holds nothing of a model. The first argument is always the model.

    Attributes:
        groups: regular expression of the names of the parameters of each `Group`.
        text: projected features of token ids, shape [n, L] -> [n, d].
        image: projected features of pixel values, shape [B, 3, H, W] -> [B, d].
        context: the most tokens that a text may have.
        vocabulary: the number of tokens that the text tower knows.
        size: height and width of the images that the image tower takes, in pixels.
        end: the token at which a text is read off, which every text must have; ``None`` if there is none.
    """

    groups: Mapping[str, str]
    text: Callable[[Any, Tensor], Tensor]
    image: Callable[[Any, Tensor], Tensor]
    context: Callable[[Any], int]
    vocabulary: Callable[[Any], int]
    size: Callable[[Any], tuple[int, int]]
    end: Callable[[Any], int | None]


def _pooled(found: Any) -> Tensor:
    """Newer versions of transformers return an output whose ``pooler_output`` is the projected embedding."""
    pooled: Tensor = found if isinstance(found, Tensor) else found.pooler_output
    return pooled


def _height_and_width(size: Any) -> tuple[int, int]:
    return (int(size[0]), int(size[1])) if isinstance(size, list | tuple) else (int(size), int(size))


def _end(towers: Any) -> int | None:
    # A 2 stands in old configurations of CLIP for "the largest id", and SigLIP reads the last position.
    kind = str(getattr(towers.config, "model_type", ""))
    found = getattr(towers.config.text_config, "eos_token_id", None)
    return int(found) if "siglip" not in kind and isinstance(found, int) and found != 2 else None


HUGGING_FACE = Library(
    groups={
        "text_attention": r"text_model\..*\bself_attn\.",
        "image_attention": r"vision_model\..*\bself_attn\.",
        "attention": r"(text|vision)_model\..*\bself_attn\.",
        "text": r"text_(model|projection)\.",
        "image": r"(vision_model|visual_projection)\.",
        "projections": r"(text|visual)_projection\.",
        "all": r"(text|vision|visual)_(model|projection)\.",
    },
    text=lambda towers, ids: _pooled(towers.get_text_features(input_ids=ids)),
    image=lambda towers, pixels: _pooled(towers.get_image_features(pixel_values=pixels)),
    context=lambda towers: int(towers.config.text_config.max_position_embeddings),
    vocabulary=lambda towers: int(towers.config.text_config.vocab_size),
    size=lambda towers: _height_and_width(towers.config.vision_config.image_size),
    end=_end,
)
"""``CLIPModel``, ``SiglipModel`` and what has the same methods, of transformers 4.45 and newer."""

OPEN_CLIP = Library(
    groups={
        "text_attention": r"(text\.)?transformer\..*\battn\.",
        "image_attention": r"visual\..*\battn\.",
        "attention": r".*\battn\.",
        "text": r"(?!visual\.|logit_)",
        "image": r"visual\.",
        "projections": r"(text\.)?text_projection|visual\.(proj$|head\.)",
        "all": r"(?!logit_)",
    },
    text=lambda towers, ids: towers.encode_text(ids),
    image=lambda towers, pixels: towers.encode_image(pixels),
    context=lambda towers: int(towers.context_length),
    vocabulary=lambda towers: int(getattr(towers, "text", towers).vocab_size),
    size=lambda towers: _height_and_width(towers.visual.image_size),
    end=lambda towers: None,
)
"""``CLIP`` and ``CustomTextCLIP`` of open_clip."""


def library_of(towers: nn.Module) -> Library:
    """Return how a model is asked.

    Raises:
        ModelError: it is none of two towers with a scale of its logits.
    """
    if isinstance(getattr(towers, "logit_scale", None), Tensor):
        if hasattr(towers, "get_text_features") and hasattr(getattr(towers, "config", None), "vision_config"):
            return HUGGING_FACE
        if hasattr(towers, "encode_text") and hasattr(towers, "visual"):
            return OPEN_CLIP
    raise ModelError(
        "`model` must have a text and an image tower: a `CLIPModel` or `SiglipModel` of transformers, or a model of "
        f"open_clip; found {type(towers).__name__}."
    )


def parameters_of(towers: nn.Module, group: str | re.Pattern[str]) -> list[str]:
    """Return the names of the parameters of a group.

    Args:
        towers: a model of two towers.
        group: a `Group`, or a compiled regular expression that a name must match from its beginning.

    Raises:
        UnknownNameError: there is no such group.
        InvalidInputError: no parameter belongs to it.
    """
    if isinstance(group, str) and group not in GROUPS:
        raise UnknownNameError("group of parameters", group, GROUPS)
    pattern = group if isinstance(group, re.Pattern) else re.compile(library_of(towers).groups[group])
    found = [name for name, _ in towers.named_parameters() if pattern.match(name)]
    if not found:
        raise InvalidInputError(
            f"`train={pattern.pattern if isinstance(group, re.Pattern) else group!r}` names no parameter of this "
            f"{type(towers).__name__}: everything would be frozen. Its first is "
            f"{next(name for name, _ in towers.named_parameters())!r}."
        )
    return found


def stages_by_name(names: Iterable[str]) -> list[list[str]]:
    """Cut the parameters of a tower into its stages: the embeddings, each block, and what comes after the last.

    >>> stages_by_name(["embed.w", "encoder.layers.0.w", "encoder.layers.1.w", "final_layer_norm.w"])
    [['embed.w'], ['encoder.layers.0.w'], ['encoder.layers.1.w'], ['final_layer_norm.w']]
    """
    stages: dict[int, list[str]] = {}
    for name in names:
        block = _BLOCK.search(name)
        after = _LAST if _AFTER.search(name) else 0
        stages.setdefault(int(block[1]) + 1 if block else after, []).append(name)
    return [stages[number] for number in sorted(stages)]


_BLOCK = re.compile(r"\b(?:layers|resblocks|block)\.(\d+)\.")
_AFTER = re.compile(r"projection|\bproj$|final_layer_norm|post_layernorm|ln_final|ln_post|\bhead\.")
"""What towers call what comes after their last block."""
_LAST = 10**6


def shared_copy(model: nn.Module) -> nn.Module:
    """Return a copy with flags, hooks and modules of its own, whose tensors are those of ``model``, not copied.

    Half-precision weights become float32 ones, which are new: steps on them would be lost to rounding. Nothing in
    the copy requires a gradient.
    """
    memo: dict[int, Any] = {id(p): nn.Parameter(_float32(p.detach()), False) for p in model.parameters()}
    memo |= {id(b): _float32(b.detach()) for b in model.buffers()}
    return copy.deepcopy(model, memo)


def _float32(tensor: Tensor) -> Tensor:
    half = tensor.is_floating_point() and torch.finfo(tensor.dtype).bits < 32
    return tensor.float() if half else tensor
