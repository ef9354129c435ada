"""Drawing: from noise to images, step by step."""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from amnesty.errors import InvalidInputError, ModelError, one_line
from amnesty.tasks.base import device_of, evaluating
from amnesty.tasks.diffusion.concepts import Prompt
from amnesty.tasks.diffusion.conditions import NONE, Conditions
from amnesty.tasks.diffusion.denoiser import Denoiser
from amnesty.tasks.diffusion.parts import Parts
from amnesty.tasks.diffusion.stored import fingerprint


@dataclass(frozen=True, eq=False, kw_only=True)
class Drawer:
    """Draws images; the same seed gives the same image whatever is drawn beside it.

    It goes the way of the pipelines of diffusers, whose images it gives for the same generators, scheduler, steps
    and guidance.

    Args:
        denoiser: answers.
        parts: of the generator.
        conditions: of prompts.
        size: height and width of the images, in pixels.
        steps: of the sampler.
        guidance: how far away from no prompt, as diffusers counts: ``none + guidance * (prompt - none)``; 1 is not at
            all.
        scheduler: of the sampler; ``None``: that of the generator.
        batch_size: images at once.
    """

    denoiser: Denoiser
    parts: Parts
    conditions: Conditions
    size: tuple[int, int]
    steps: int
    guidance: float
    scheduler: Any = None
    batch_size: int = 16

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidInputError(f"`{name}` must be a whole number of at least 1, found {value!r}.")
        if not 0 <= self.guidance < math.inf:
            raise InvalidInputError(f"`guidance` must be at least 0 and finite, found {self.guidance!r}.")

    @property
    def describe(self) -> Mapping[str, Any]:
        """Who draws, and how: plain values."""
        sampler = self.scheduler or self.parts.scheduler
        settings = {key: value for key, value in sampler.config.items() if not key.startswith("_")}
        return {
            "weights": fingerprint(self.denoiser),
            "other_weights": self.parts.other_weights,
            "scheduler": type(sampler).__name__,
            "schedule": hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest(),
            "steps": self.steps,
            "guidance": self.guidance,
            "size": list(self.size),
        }

    def __call__(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> Tensor:
        """Return an image of each prompt, float32 in [0, 1], shape [n, C, H, W].

        Args:
            prompts: one for each image.
            seeds: of the noise that each image begins with.

        Raises:
            InvalidInputError: not as many seeds as prompts, or no prompt.
            ModelError: the sampler cannot be used.
        """
        return torch.cat([self.parts.decode(latents) for latents in self._blocks(prompts, seeds)])

    def latents(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> Tensor:
        """Return the same as the backbone works on it, shape [n, C, h, w], on the CPU."""
        return torch.cat([latents.cpu() for latents in self._blocks(prompts, seeds)])

    def _blocks(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Tensor]:
        if len(prompts) != len(seeds) or not prompts:
            raise InvalidInputError(
                f"Give a prompt and a seed for each image, found {len(prompts)} and {len(seeds)}."
            )
        rows = torch.tensor(self.conditions.known_rows(prompts))
        found = []
        with evaluating(self.denoiser):
            for start in range(0, len(seeds), self.batch_size):
                block = slice(start, start + self.batch_size)
                generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds[block]]
                found.append(self.walk(rows[block], generators)[0])
        return found

    def walk(
        self, rows: Tensor, generators: list[torch.Generator], until: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Go the first ``until`` steps from noise for prompts of these rows; the denoiser is to be `evaluating`.

        Returns:
            Where that leads, shape [B, C, h, w], and the times of all steps: some samplers take more than `steps`.
        """
        device = device_of(self.denoiser)
        scheduler, times = self._begun(device)
        shape = (self.parts.channels, *(side // self.parts.factor for side in self.size))
        images = torch.stack([torch.randn(shape, generator=one) for one in generators]).to(device)
        images = images * getattr(scheduler, "init_noise_sigma", 1.0)
        further = {"generator": generators} if "generator" in inspect.signature(scheduler.step).parameters else {}
        wanted, none = self.conditions(rows, device), self.conditions(torch.full_like(rows, NONE), device)
        for time in times[:until]:
            shown = scheduler.scale_model_input(images, time) if hasattr(scheduler, "scale_model_input") else images
            images = scheduler.step(self._led(shown, time, wanted, none), time, images, **further).prev_sample
        return images, times

    def _led(self, images: Tensor, time: Tensor, wanted: Mapping[str, Tensor], none: Mapping[str, Tensor]) -> Tensor:
        times = time.to(images.device).expand(len(images))
        if self.guidance == 1:
            return self.denoiser.predict(images, times, wanted)
        told = {name: torch.cat([none[name], wanted[name]]) for name in wanted}
        free, led = self.denoiser.predict(images.repeat(2, 1, 1, 1), times.repeat(2), told).chunk(2)
        return free + self.guidance * (led - free)

    def _begun(self, device: torch.device) -> tuple[Any, Tensor]:
        """Return a scheduler of its own, for they keep where they are, and the times of its steps."""
        scheduler: Any = copy.deepcopy(self.scheduler or self.parts.scheduler)
        further = {}
        if scheduler.config.get("use_dynamic_shifting"):
            further["mu"] = _shift(scheduler.config, self.parts, self.size)
        try:
            scheduler.set_timesteps(self.steps, device=device, **further)
        except (TypeError, ValueError) as error:
            raise ModelError(
                f"{type(scheduler).__name__} cannot make {self.steps} steps: {one_line(error)}"
            ) from error
        return scheduler, scheduler.timesteps


def _shift(config: Any, parts: Parts, size: tuple[int, int]) -> float:
    """Return how far times move towards noise for images of this size, linear in the number of patches."""
    patches = 1.0
    for side in size:
        patches *= side // parts.factor // parts.backbone.config.patch_size
    least, most = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.16)
    return float(low + (patches - least) * (high - low) / (most - least))


def noiseless(scheduler: Any) -> Any:
    """Return a sampler without noise in its steps, and in the scale that the model was trained in.

    Steps of other samplers may be of several orders, or in other scales.
    """
    from diffusers import DDIMScheduler

    if "FlowMatch" in type(scheduler).__name__:
        return scheduler
    kind: Any = DDIMScheduler
    # Samplers that clip nothing do not say so, and by default this one clips to [-1, 1], where latents are not.
    return kind.from_config(scheduler.config, clip_sample=scheduler.config.get("clip_sample", False))
