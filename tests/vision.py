"""Networks of timm and torchvision that are small enough for tests.

timm needs torchvision, whose packages are built against PyTorch for CUDA. Beside a PyTorch for the CPU their compiled
part does not load, and its Python part, of which only the networks are wanted here, misses the declarations of a few
operators: those are declared empty.
"""

from __future__ import annotations

import importlib
import re
import sys
from types import ModuleType

import torch
from torch import nn


def _load() -> None:
    for _ in range(10):
        try:
            import torchvision  # noqa: F401
        except RuntimeError as error:
            missing = re.fullmatch(r"operator (torchvision::\w+) does not exist", str(error))
            if missing is None:
                raise
            torch.library.define(missing[1], "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
                del sys.modules[name]
        else:
            return


_load()


def library(name: str) -> ModuleType:
    """Import a module of timm or torchvision."""
    return importlib.import_module(name)


def vit(classes: int = 10) -> nn.Module:
    """A vision transformer of two blocks for inputs of shape [B, 1, 8, 8]."""
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=8, patch_size=2, in_chans=1, embed_dim=32, depth=2, num_heads=2, num_classes=classes
    )
