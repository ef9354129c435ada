"""The model that a diffusion task unlearns: a U-Net or transformer, and how it is asked."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from amnesty.tasks.base import to_device
from amnesty.tasks.diffusion.families import Family


@dataclass(frozen=True, eq=False)
class Question:
    """What a model is asked of a batch.

    Attributes:
        images: x_t, shape [B, C, h, w].
        times: shape [B].
        told: of the prompts, by name, B rows each.
    """

    images: Tensor
    times: Tensor
    told: Mapping[str, Tensor]

    def to(self, device: Any) -> Question:
        """Return the question on another device."""
        return Question(*to_device((self.images, self.times, dict(self.told)), device))


class Denoiser(nn.Module):
    """A U-Net or transformer of diffusers that answers questions.

    Args:
        backbone: the model itself, perhaps with adapters.
        family: how it is asked.

    Attributes:
        backbone: the model itself.
    """

    def __init__(self, backbone: nn.Module, family: Family) -> None:
        super().__init__()
        self.backbone = backbone
        self.family = replace(family)

    def predict(self, images: Tensor, times: Tensor, told: Mapping[str, Tensor]) -> Tensor:
        """Return what the model says, float32, shape [B, C, h, w]; see `amnesty.tasks.diffusion.Noising`.

        Where it tells a variance, too, that is left out.
        """
        found = self.family.ask(self.backbone, images, times, told)
        return found[:, : images.shape[1]].float()

    def forward(self, question: Question) -> Tensor:
        """Return the same, shape [B, C h w]."""
        return self.predict(question.images, question.times, question.told).flatten(1)

    def own_stages(self) -> tuple[tuple[str, ...], ...]:
        """Return the names of the parameters of each stage, in order of use; for `amnesty.weights.stages`."""
        stages: dict[str, list[str]] = {"first": []}
        for name, _ in self.backbone.named_parameters():
            found = re.match(self.family.stages, name)
            late = re.match(r"conv_norm_out|conv_out|norm_out|proj_out|scale_shift_table", name)
            stages.setdefault(found[1] if found else "last" if late else "first", []).append(f"backbone.{name}")
        rank = {"first": (0, 0), "last": (4, 0)}
        blocks = {"down_blocks": 1, "transformer_blocks": 1, "mid_block": 2, "up_blocks": 3}
        for stage in stages:
            kind, _, number = stage.partition(".")
            rank.setdefault(stage, (blocks.get(kind, 1), int(number or 0)))
        return tuple(tuple(stages[stage]) for stage in sorted(stages, key=rank.__getitem__) if stages[stage])

    def plain(self) -> nn.Module:
        """Return a copy of the backbone as diffusers has it, adapters merged."""
        merged: Any = copy.deepcopy(self.backbone)
        if adapted(merged):
            from diffusers.utils import peft_utils
            from peft.tuners.tuners_utils import BaseTunerLayer

            for module in merged.modules():
                if isinstance(module, BaseTunerLayer):
                    module.merge(safe_merge=True)
            merged = peft_utils.recurse_remove_peft_layers(merged)  # type: ignore[no-untyped-call]
            if hasattr(merged, "peft_config"):
                del merged.peft_config
            merged._hf_peft_config_loaded = False
        merged.disable_gradient_checkpointing()
        for p in merged.parameters():
            p.requires_grad_(True)
        return merged.eval()  # type: ignore[no-any-return]

    def save_pretrained(self, folder: str | Path, *, merge: bool = True) -> None:
        """Write the backbone as diffusers does, or without ``merge`` its adapters alone, in safetensors.

        Args:
            folder: is made.
            merge: adapters become part of the weights. Whoever holds separate ones can take them off again.
        """
        if merge or not adapted(self.backbone):
            plain: Any = self.plain()
            plain.save_pretrained(folder)
            return
        from amnesty.tasks.diffusion.adapters import save_adapters

        save_adapters(self.backbone, Path(folder))


def adapted(backbone: nn.Module) -> bool:
    """Say whether a model has adapters."""
    return getattr(backbone, "peft_config", None) is not None
