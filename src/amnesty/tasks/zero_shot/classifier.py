"""A classifier whose classes are words: images are compared with the texts of their class names."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from amnesty.errors import InvalidInputError, ModelError
from amnesty.tasks.zero_shot.towers import Library, library_of, stages_by_name
from amnesty.tasks.zero_shot.words import Reader

_AT_ONCE = 1024  # prompts


class ZeroShotClassifier(nn.Module):
    """Two towers and the prompts of K classes; maps images to logits, shape [B, K].

    A logit is ``scale * <u, w_k> + bias``, u being the image's feature of unit length, w_k the mean of the unit
    features of class k's prompts, made unit again, and scale the model's own. The texts pass through their tower
    once a call, not once an image, and once for all calls while their tower does not change.

    Args:
        towers: a ``CLIPModel``, ``SiglipModel``, a model of open_clip, or one of these in a ``PeftModel``.
        prompts: token ids, shape [K, T, L].
        reader: made them.

    Attributes:
        towers: the model itself.
    """

    prompts: Tensor

    def __init__(self, towers: nn.Module, prompts: Tensor, reader: Reader) -> None:
        super().__init__()
        self.towers = towers
        self.register_buffer("prompts", prompts, persistent=False)
        self._reader, self._known = reader, _Known()

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits, shape [B, K], of pixel values, shape [B, 3, H, W], or image features, shape [B, d]."""
        return self.compare(self.image_features(inputs), self.class_features())

    def compare(self, images: Tensor, texts: Tensor) -> Tensor:
        """Return the logits, shape [B, n], of unit features of images, shape [B, d], and texts, shape [n, d]."""
        found = self.scale() * images @ texts.T
        bias: Tensor | None = getattr(self.base, "logit_bias", None)
        return found if bias is None else found + bias

    def image_features(self, inputs: Tensor) -> Tensor:
        """Return unit features, shape [B, d], of pixel values, shape [B, 3, H, W]; those of features are themselves.

        Raises:
            ModelError: the images have another size than the image tower takes.
        """
        if inputs.dim() == 2:
            return F.normalize(inputs, dim=-1)
        height, width = self.library.size(self.base)
        if inputs.dim() != 4 or tuple(inputs.shape[1:]) != (3, height, width):
            raise ModelError(
                f"The image tower takes images of shape [3, {height}, {width}], found {list(inputs.shape[1:])}. Give "
                "the model's own image processor, or images of that size."
            )
        return F.normalize(self.library.image(self.base, inputs), dim=-1)

    def text_features(self, ids: Tensor) -> Tensor:
        """Return unit features, shape [n, d], of token ids, shape [n, L]."""
        blocks = torch.split(ids.to(self.prompts.device), _AT_ONCE)
        return torch.cat([F.normalize(self.library.text(self.base, block), dim=-1) for block in blocks])

    def class_features(self) -> Tensor:
        """Return the unit feature of each class, shape [K, d]."""
        if torch.is_grad_enabled() and self.trains("text"):
            return self._read_prompts()
        return self._known.of(self.prompts, self._named("text"), self._read_prompts)

    def reading(self, texts: Sequence[str]) -> Tensor:
        """Return the token ids of texts, shape [n, L]; see `Reader`."""
        return self._reader(texts).to(self.prompts.device)

    def asking(self, class_names: Sequence[str], templates: Sequence[str]) -> ZeroShotClassifier:
        """Return a classifier with the same towers and other classes; see `Reader.prompts`."""
        prompts = self._reader.prompts(class_names, templates).to(self.prompts.device)
        return ZeroShotClassifier(self.towers, prompts, self._reader).train(self.training)

    def scale(self) -> Tensor:
        """Return what cosines are multiplied by."""
        found: Any = self.base.logit_scale
        return torch.exp(found)

    def trains(self, tower: str) -> bool:
        """Say whether something of the ``"text"`` or ``"image"`` tower requires a gradient."""
        return any(p.requires_grad for p in self._named(tower))

    def own_stages(self) -> tuple[tuple[str, ...], ...]:
        """Return the names of the parameters of each stage, from the inputs on; for `amnesty.weights.stages`.

        The embeddings of the towers that move, each of their blocks, and what comes after the last block. Where both
        move, their last blocks are one stage, those before them another, and so on.
        """
        wrapped = {id(p): name for name, p in self.named_parameters()}
        towers = [self._stages_of(tower, wrapped) for tower in ("text", "image") if self.trains(tower)]
        depth = max(map(len, towers), default=0)
        return tuple(
            tuple(name for tower in towers if len(tower) >= depth - k for name in tower[k - depth])
            for k in range(depth)
        )

    def _stages_of(self, tower: str, wrapped: Mapping[int, str]) -> list[list[str]]:
        pattern = re.compile(self.library.groups[tower])
        return stages_by_name(wrapped[id(p)] for name, p in self.base.named_parameters() if pattern.match(name))

    @property
    def base(self) -> nn.Module:
        """The two towers without a wrapper: of a ``PeftModel``, what it wraps, adapters in place."""
        get: Any = getattr(self.towers, "get_base_model", None)
        found: nn.Module = self.towers if get is None else get()
        return found

    @property
    def library(self) -> Library:
        """How the towers are asked."""
        return library_of(self.base)

    def _named(self, tower: str) -> list[Tensor]:
        pattern = re.compile(self.library.groups[tower])
        return [p for name, p in self.base.named_parameters() if pattern.match(name)]

    def _read_prompts(self) -> Tensor:
        classes, templates, length = self.prompts.shape
        each = self.text_features(self.prompts.view(-1, length)).view(classes, templates, -1)
        return each[:, 0] if templates == 1 else F.normalize(each.mean(dim=1), dim=-1)

    # What becomes of it.

    def plain(self) -> nn.Module:
        """Return the towers as their library knows them, adapters merged; a copy where there were some."""
        if not hasattr(self.towers, "merge_and_unload"):
            return self.towers
        wrapped: Any = copy.deepcopy(self.towers)
        merged: nn.Module = wrapped.merge_and_unload()
        return merged

    def save_pretrained(self, folder: str | Path, merge: bool = True) -> None:
        """Save the towers so that their library opens them; the tokenizer and the image processor are yours to save.

        Args:
            folder: is made.
            merge: merge adapters into the weights; else the adapters are saved, alone.

        Raises:
            InvalidInputError: the model is not one of transformers, or has no adapters to be saved alone.
        """
        if not merge and not hasattr(self.towers, "peft_config"):
            raise InvalidInputError("There are no adapters to save alone: the task was made without `lora`.")
        chosen: Any = self.plain() if merge else self.towers
        if not hasattr(chosen, "save_pretrained"):
            raise InvalidInputError(
                f"{type(chosen).__name__} has no `save_pretrained`; save its weights with "
                "`amnesty.weights.save_weights(path, classifier.plain())`."
            )
        chosen.save_pretrained(folder)


class _Known:
    """Class features that were read before, while the weights and prompts that they come from are the same."""

    def __init__(self) -> None:
        self._key: Tensor | None = None
        self._features = torch.empty(0)

    def of(self, prompts: Tensor, weights: Sequence[Tensor], read: Any) -> Tensor:
        """Return the features, reading them only if something has changed."""
        with torch.no_grad():
            # Sums, and squares that tell a change of order: versions and addresses miss what is written to `.data`.
            sums = [x for w in weights for x in (w.sum(dtype=torch.float64), w.double().square().sum())]
            key = torch.stack([*sums, prompts.sum(dtype=torch.float64).to(sums[0].device)])
            if self._key is None or self._key.device != key.device or not torch.equal(self._key, key):
                self._features, self._key = read().detach(), key
        return self._features


def sees_alike(one: ZeroShotClassifier, other: ZeroShotClassifier) -> bool:
    """Say whether two models have the same image tower, to the bit."""
    if one is other:
        return True
    sides = [_image_tower(model) for model in (one, other)]
    return sides[0].keys() == sides[1].keys() and all(
        p.shape == q.shape and torch.equal(p.cpu(), q.cpu())
        for p, q in zip(sides[0].values(), sides[1].values(), strict=True)
    )


def _image_tower(model: ZeroShotClassifier) -> dict[str, Tensor]:
    pattern, base = re.compile(model.library.groups["image"]), model.base
    named = chain(base.named_parameters(), base.named_buffers())
    return {name: tensor.detach() for name, tensor in sorted(named, key=lambda pair: pair[0]) if pattern.match(name)}
