"""The parts of an image generator, whoever holds them."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from amnesty.errors import ModelError, one_line
from amnesty.tasks.base import device_of
from amnesty.tasks.diffusion.stored import fingerprint


@dataclass(frozen=True, eq=False)
class Parts:
    """The parts of a generator, as diffusers calls them.

    Attributes:
        backbone: what predicts: ``unet`` or ``transformer``.
        name: which of both it is called.
        scheduler: of its sampler.
        vae: makes images of latents; ``None`` for a model of pixels.
        given: the pipeline or mapping itself.
    """

    backbone: Any
    name: str
    scheduler: Any
    vae: Any
    given: Any

    def part(self, name: str) -> Any:
        """Return another part by name, ``None`` if there is none."""
        return _part(self.given, name)

    @cached_property
    def other_weights(self) -> str:
        """A text that is another one for other weights of the parts beside the backbone; read once."""
        named = ("vae", *(f"text_encoder{number}" for number in ("", "_2", "_3")))
        found = {name: self.part(name) for name in named}
        told = {name: fingerprint(part) for name, part in found.items() if isinstance(part, nn.Module)}
        return hashlib.sha256(str(told).encode()).hexdigest()

    # Between images and what the backbone works on.

    @property
    def channels(self) -> int:
        """Channels of the backbone's input: of latents, or of pixels."""
        return int(self.backbone.config.in_channels)

    @property
    def image_channels(self) -> int:
        """1 for grey images, 3 for colour."""
        return self.channels if self.vae is None else int(self.vae.config.in_channels)

    @property
    def factor(self) -> int:
        """Pixels of an image for one of its latents, along a side."""
        return 1 if self.vae is None else int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images that the model was made for, in pixels."""
        side = self.backbone.config.sample_size
        if side is None:
            raise ModelError("The configuration of the model has no `sample_size`: give `image_size`, in pixels.")
        height, width = (side, side) if isinstance(side, int) else side
        return int(height) * self.factor, int(width) * self.factor

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and deviation of what the backbone works on, of pixels in [-1, 1], shape [B, C, H, W].

        Raises:
            ModelError: the autoencoder cannot take them.
        """
        if self.vae is None:
            return pixels, torch.zeros_like(pixels)
        try:
            found = self.vae.encode(pixels.to(device_of(self.vae), next(self.vae.parameters()).dtype)).latent_dist
        except (RuntimeError, ValueError, AttributeError) as error:
            raise ModelError(f"The autoencoder cannot take the images: {one_line(error)}") from error
        mean, scale = (x.to(pixels) for x in self._scaling(found.mean.float()))
        latent, deviation = found.mean.to(pixels), found.std.to(pixels)
        return (latent - mean) * scale, deviation * scale

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Return images, float32 in [0, 1], on the CPU."""
        if self.vae is not None:
            mean, scale = self._scaling(latents)
            latents = (latents / scale + mean).to(device_of(self.vae), next(self.vae.parameters()).dtype)
            latents = self.vae.decode(latents).sample
        images: Tensor = (latents.float() / 2 + 0.5).clamp(0, 1).cpu()
        return images

    def _scaling(self, like: Tensor) -> tuple[Tensor, Tensor]:
        config = self.vae.config
        mean, scale = like.new_tensor(config.get("shift_factor") or 0.0), like.new_tensor(config.scaling_factor)
        if config.get("latents_mean") is not None and config.get("latents_std") is not None:
            column = (1, -1, 1, 1)
            mean = like.new_tensor(config.latents_mean).view(column)
            scale = scale / like.new_tensor(config.latents_std).view(column)
        return mean, scale


def parts_of(given: Any) -> Parts:
    """Find the parts of a pipeline of diffusers, or of a mapping or an object that has them by the same names.

    Raises:
        ModelError: there is no U-Net or transformer, or no scheduler.
    """
    for name in ("unet", "transformer"):
        backbone = _part(given, name)
        if isinstance(backbone, nn.Module):
            break
    else:
        raise ModelError(
            "`pipeline` must be a pipeline of diffusers, or a mapping with a `unet` or `transformer` and a "
            f"`scheduler`; found {type(given).__name__}."
        )
    if not hasattr(backbone, "config"):
        raise ModelError(
            f"The {name} must be a model of diffusers with a configuration, found {type(backbone).__name__}."
        )
    scheduler = _part(given, "scheduler")
    if scheduler is None:
        raise ModelError(
            "`pipeline` has no `scheduler`: without it nobody knows what noise the model was trained on."
        )
    return Parts(backbone, name, scheduler, _part(given, "vae"), given)


def with_part(given: Any, name: str, part: nn.Module) -> Any:
    """Return a pipeline, mapping or object with another part of that name; what was given stays as it was."""
    if isinstance(given, Mapping):
        return {**given, name: part}
    found: Any = copy.copy(given)
    if hasattr(found, "register_modules"):
        found.register_modules(**{name: part})
    elif dataclasses.is_dataclass(found) and not isinstance(found, type):
        return dataclasses.replace(found, **{name: part})
    else:
        setattr(found, name, part)
    return found


def _part(given: Any, name: str) -> Any:
    return given.get(name) if isinstance(given, Mapping) else getattr(given, name, None)
