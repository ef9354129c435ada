"""How well images fit the texts that asked for them: the cosine that a CLIP model sees."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from amnesty.errors import MissingExtraError, ModelError, one_line
from amnesty.evaluation.image_values import AT_ONCE, coloured, eight_bit
from amnesty.tasks import device_of, evaluating
from amnesty.tasks.zero_shot.pixels import processed
from amnesty.tasks.zero_shot.towers import HUGGING_FACE


def clip_score(images: Tensor, texts: Tensor) -> Tensor:
    """Return ``100 max(cos, 0)`` of features of images and of their texts, both of shape [n, d]: shape [n].

    From 0 to 100; higher is better. Values of different CLIP models cannot be compared.

    Source: Hessel et al., CLIPScore, arXiv:2104.08718, Eq. 1, with 100 in place of 2.5.

    >>> clip_score(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[3.0, 4.0], [-1.0, 0.0]])).tolist()
    [60.0, 0.0]
    """
    return 100 * F.cosine_similarity(images.double(), texts.double(), dim=1).clamp(min=0)


@dataclass(frozen=True, eq=False)
class ClipScorer:
    """A CLIP model that says how well images fit texts.

    Args:
        model: a ``CLIPModel`` of transformers; runs on its own device.
        processor: its ``CLIPProcessor``.
        name: of the model, to stand beside its scores.
    """

    model: Any
    processor: Any
    name: str

    @classmethod
    def load(cls, folder: str | Path) -> ClipScorer:
        """Read model and processor from a folder of transformers, weights from safetensors alone.

        Raises:
            ModelError: it cannot be read as a CLIP model.
            MissingExtraError: transformers is not installed.
        """
        try:
            import transformers
        except ImportError as error:
            raise MissingExtraError("transformers", "diffusion", "The CLIP score") from error
        try:
            model: Any = transformers.CLIPModel.from_pretrained(
                str(folder), use_safetensors=True, local_files_only=True
            )
            processor = transformers.CLIPProcessor.from_pretrained(str(folder), local_files_only=True)
        except (OSError, ValueError, TypeError, RuntimeError, KeyError) as error:
            raise ModelError(f"{folder} cannot be read as a CLIP model: {one_line(error)}") from error
        return cls(model.eval(), processor, str(folder))

    def __call__(self, images: Tensor, text: str) -> Tensor:
        """Return the score of each image for a text, see `clip_score`: float64, shape [n], on the CPU.

        Args:
            images: uint8, or floats in [0, 1], shape [n, 1 or 3, H, W]; the processor prepares them.
            text: what is longer than the model reads is cut off.

        Raises:
            DataError: images that are none, or that the processor cannot take.
            ModelError: the model cannot be asked.
        """
        pixels = coloured(eight_bit(images))
        device = device_of(self.model)
        try:
            ids = self.processor.tokenizer(
                [text], truncation=True, max_length=HUGGING_FACE.context(self.model), return_tensors="pt"
            )["input_ids"]
            with evaluating(self.model):
                told = HUGGING_FACE.text(self.model, ids.to(device)).cpu()
                seen = [
                    HUGGING_FACE.image(self.model, processed(list(some), self.processor.image_processor).to(device))
                    for some in torch.split(pixels, AT_ONCE)
                ]
        except (RuntimeError, TypeError, AttributeError, IndexError) as error:
            raise ModelError(f"{self.name} cannot be asked as a CLIP model: {one_line(error)}") from error
        features = torch.cat(seen).cpu()
        return clip_score(features, told.expand_as(features))
