"""How the models of diffusers are asked, and what they call their parameters: one entry for each kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from amnesty.errors import InvalidInputError, ModelError, UnknownNameError
from amnesty.tasks.diffusion import telling
from amnesty.tasks.diffusion.parts import Parts

Told = dict[str, Tensor]
"""What a model is told of n prompts: tensors of n rows by name."""

_KEYS = r".*\.attn2\.to_[kv]"
_ENDS = r"(?!time_embedding\.|conv_norm_out\.|conv_out\.)"


@dataclass(frozen=True)
class Family:
    """How one kind of model is asked; it holds nothing of a model.

    Attributes:
        title: for people.
        ask: model, x_t [B, C, h, w], times [B], what it is told -> its answer [B, C or 2C, h, w].
        tell: parts, prompts, height and width in pixels -> what the model is told of the prompts; of ``None`` in
            place of prompts, what it is told of none: the empty prompt, or the class that stands for no class.
        groups: regular expression of the names of the parameters of each group that may be trained.
        default: the group that is trained where none is named.
        guidance: that pipelines of this kind draw with.
        flow: whether it is trained by flow matching; ``None``: either.
        labels: whether it knows classes, not texts.
        readers: regular expression of the linear layers that get nothing but what is told of a prompt.
        stages: regular expression of what is a stage, in its first group.
    """

    title: str
    ask: Callable[[Any, Tensor, Tensor, Mapping[str, Tensor]], Tensor]
    tell: Callable[[Parts, Any, tuple[int, int]], Told]
    groups: Mapping[str, str]
    default: str
    guidance: float
    flow: bool | None = False
    labels: bool = False
    readers: str | None = None
    stages: str = r"^((?:down_blocks|up_blocks|transformer_blocks)\.\d+|mid_block)\."


def _conditioned(unet: Any, x: Tensor, times: Tensor, told: Mapping[str, Tensor]) -> Tensor:
    more = {}
    if "pooled" in told:
        more["added_cond_kwargs"] = {"text_embeds": told["pooled"], "time_ids": told["time_ids"]}
    found: Tensor = unet(x, times, encoder_hidden_states=told["hidden"], **more).sample
    return found


def _labelled(model: Any, x: Tensor, times: Tensor, told: Mapping[str, Tensor]) -> Tensor:
    found: Tensor = model(x, timestep=times, class_labels=told["labels"]).sample
    return found


def _pixart(transformer: Any, x: Tensor, times: Tensor, told: Mapping[str, Tensor]) -> Tensor:
    more = {"resolution": told.get("resolution"), "aspect_ratio": told.get("aspect_ratio")}
    found: Tensor = transformer(
        x,
        encoder_hidden_states=told["hidden"],
        encoder_attention_mask=told["mask"],
        timestep=times,
        added_cond_kwargs=more,
    ).sample
    return found


def _joint(transformer: Any, x: Tensor, times: Tensor, told: Mapping[str, Tensor]) -> Tensor:
    found: Tensor = transformer(
        x, timestep=times, encoder_hidden_states=told["hidden"], pooled_projections=told["pooled"]
    ).sample
    return found


_TEXT_UNET = {
    "xattn": r".*\.attn2\.",
    "xattn_kv": r".*\.attn2\.to_[kv]\.",
    "selfattn": r".*\.attn1\.",
    "noxattn": rf"{_ENDS}(?!.*\.attn2\.)",
    "notime": _ENDS,
    "full": r"",
    "esd_u": r"(?!.*\.attn2\.)",  # its layers only; see `parameters_of`
}

TEXT_UNET = Family("U-Net told texts", _conditioned, telling.clip, _TEXT_UNET, "xattn", 7.5, None, readers=_KEYS)
"""``UNet2DConditionModel`` of Stable Diffusion 1 and 2."""

XL_UNET = Family("U-Net of SDXL", _conditioned, telling.sdxl, _TEXT_UNET, "xattn", 5.0, None, readers=_KEYS)

CLASS_UNET = Family(
    "U-Net told classes",
    _labelled,
    telling.labels,
    {
        "conditioning": r"(class_embedding|time_embedding)\.|.*\.time_emb_proj\.",
        "selfattn": r".*\.attentions\.\d+\.to_",
        "notime": _ENDS,
        "full": r"",
    },
    "conditioning",
    1.5,
    None,
    labels=True,
)
"""``UNet2DModel`` with ``num_class_embeds``."""

DIT = Family(
    "DiT",
    _labelled,
    telling.labels,
    {"conditioning": r".*\.norm1\.(emb\.class_embedder|linear)\.", "selfattn": r".*\.attn1\.", "full": r""},
    "conditioning",
    4.0,
    labels=True,
)

PIXART = Family(
    "PixArt",
    _pixart,
    telling.pixart,
    {
        "xattn": r".*\.attn2\.",
        "xattn_kv": r".*\.attn2\.to_[kv]\.",
        "selfattn": r".*\.attn1\.",
        "conditioning": r"caption_projection\.",
        "noxattn": r"(?!.*\.attn2\.)(?!adaln_single\.|proj_out\.|scale_shift_table)",
        "full": r"",
    },
    "xattn",
    4.5,
    readers=_KEYS,
)

SD3 = Family(
    "Stable Diffusion 3",
    _joint,
    telling.sd3,
    {
        "context": r"context_embedder\.|.*\.(attn\.add_[qkv]_proj|attn\.to_add_out|ff_context|norm1_context)\.",
        "selfattn": r".*\.attn2?\.to_(q|k|v|out)\b",
        "notime": r"(?!time_text_embed\.|norm_out\.|proj_out\.)",
        "full": r"",
    },
    "context",
    7.0,
    flow=True,
    readers=r"context_embedder",
)

FAMILIES: dict[str, Callable[[Any], Family]] = {
    "UNet2DConditionModel": lambda config: XL_UNET if config.addition_embed_type == "text_time" else TEXT_UNET,
    "UNet2DModel": lambda config: CLASS_UNET,
    "DiTTransformer2DModel": lambda config: DIT,
    "PixArtTransformer2DModel": lambda config: PIXART,
    "SD3Transformer2DModel": lambda config: SD3,
}
"""By the class of the backbone and its configuration."""


def family_of(backbone: nn.Module) -> Family:
    """Return how a model is asked.

    Raises:
        ModelError: its kind is not known.
    """
    name = type(backbone).__name__
    if name not in FAMILIES:
        raise ModelError(f"The backbone must be one of {', '.join(FAMILIES)} of diffusers, found {name}.")
    config: Any = backbone.config
    if name == "UNet2DModel" and not config.num_class_embeds:
        raise ModelError("This `UNet2DModel` knows no classes (`num_class_embeds`): there is nothing to ask it for.")
    return FAMILIES[name](config)


def parameters_of(backbone: nn.Module, group: str | re.Pattern[str] | None) -> list[str]:
    """Return the names of the parameters of a group.

    Args:
        backbone: a U-Net or transformer.
        group: see `Family`, or a compiled regular expression that a name must match from its beginning; ``None`` is
            the family's default.

    Raises:
        UnknownNameError: this kind of model has no such group.
        InvalidInputError: no parameter belongs to it.
    """
    family = family_of(backbone)
    name = family.default if group is None else group
    if not isinstance(name, re.Pattern) and str(name) not in family.groups:
        raise UnknownNameError(f"group of parameters of a {family.title}", name, family.groups)
    pattern = name if isinstance(name, re.Pattern) else re.compile(family.groups[str(name)])
    found = [key for key, _ in backbone.named_parameters() if pattern.match(key)]
    if name == "esd_u":
        layers = {key for key, module in backbone.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}
        found = [key for key in found if key.rpartition(".")[0] in layers]
    if not found:
        raise InvalidInputError(
            f"`train={pattern.pattern!r}` names no parameter of this {type(backbone).__name__}: everything would be "
            f"frozen. Its first is {next(key for key, _ in backbone.named_parameters())!r}."
        )
    return found
