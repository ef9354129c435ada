"""What players want of an image generator: one number for each example, the squared error of an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from amnesty.tasks.base import device_of, evaluating
from amnesty.tasks.diffusion.conditions import NONE, Captions, Conditions
from amnesty.tasks.diffusion.denoiser import Denoiser
from amnesty.tasks.diffusion.noising import Noising
from amnesty.tasks.diffusion.sampling import Drawer

ForgetLoss = Literal["auto", "anchor", "random", "null", "esd", "noise", "misalign"]
"""What a forgetting player wants; see `amnesty.Diffusion`."""

FORGET_LOSSES: tuple[ForgetLoss, ...] = get_args(ForgetLoss)

RetainLoss = Literal["distill", "denoise"]
"""What the retaining player wants; see `amnesty.Diffusion`."""

RETAIN_LOSSES: tuple[RetainLoss, ...] = get_args(RetainLoss)


@dataclass(frozen=True, eq=False)
class Process:
    """What the losses of one task share: how images are mixed with noise, and what is told of captions.

    Attributes:
        noising: see `Noising`.
        conditions, captions: see there.
        drop: share of the prompts of kept images that are left out, which keeps the answer to no prompt.
    """

    noising: Noising
    conditions: Conditions
    captions: Captions
    drop: float


@dataclass(frozen=True, eq=False)
class Noised:
    """A batch that was mixed with noise.

    Attributes:
        images, noise, mixed: shape [B, C, h, w], on the model's device.
        times: shape [B], there.
        captions: shape [B], on the CPU.
        rows: of a prompt of each caption, shape [B], on the CPU.
    """

    images: Tensor
    noise: Tensor
    mixed: Tensor
    times: Tensor
    captions: Tensor
    rows: Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class ExampleLoss:
    """A player's loss: the mean over a batch of one number for each example.

    Attributes:
        process: see `Process`.
    """

    process: Process

    def __call__(self, model: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
        """Return the scalar loss of a batch of `amnesty.tasks.diffusion.latents.Latents`."""
        return self.each(model, batch, generator).mean()

    def each(self, model: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
        """Return the loss of each example, shape [B]."""
        raise NotImplementedError

    def noised(self, batch: Any, generator: torch.Generator, device: torch.device, empty: bool = False) -> Noised:
        """Draw images of their latents, noise, times and prompts; with ``empty`` the images are noise themselves."""
        latents, captions = (x.cpu() for x in batch)
        mean, deviation = latents.chunk(2, dim=1)
        if empty:
            images = 2 * torch.rand(mean.shape, generator=generator) - 1
        else:
            images = mean + deviation * torch.randn(mean.shape, generator=generator)
        noise = torch.randn(mean.shape, generator=generator)
        times = self.process.noising.times(len(mean), generator)
        rows = self.process.captions.choose(captions, generator)
        images, noise, times = (x.to(device, non_blocking=True) for x in (images, noise, times))
        return Noised(images, noise, self.process.noising.mixed(images, noise, times), times, captions, rows)

    def dropped(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Leave out a share of the prompts."""
        if not self.process.drop:
            return rows
        return torch.where(torch.rand(rows.shape, generator=generator) < self.process.drop, NONE, rows)

    def told(self, rows: Tensor, device: torch.device) -> dict[str, Tensor]:
        """Return what the model is told."""
        return self.process.conditions(rows, device)


def squared(found: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean squared difference of each example, float32, shape [B]."""
    return (found.float() - wanted.float()).square().flatten(1).mean(dim=1)


@dataclass(frozen=True, eq=False, kw_only=True)
class Denoised(ExampleLoss):
    """The loss of training: the squared error of the answer.

    Attributes:
        drop: leave out a share of the prompts; see `Process`.
        others: rows of other prompts, of which one takes the place of each image's own.
        empty: learn that noise is what was asked for.
    """

    drop: bool = False
    others: Tensor | None = None
    empty: bool = False

    def each(self, model: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
        """Return the loss of each example, shape [B]."""
        assert isinstance(model, Denoiser)
        device = device_of(model)
        seen = self.noised(batch, generator, device, self.empty)
        rows = seen.rows if self.others is None else _drawn(self.others, len(seen.rows), generator)
        if self.drop:
            rows = self.dropped(rows, generator)
        wanted = self.process.noising.target(seen.images, seen.noise, seen.times)
        return squared(model.predict(seen.mixed, seen.times, self.told(rows, device)), wanted)


@dataclass(frozen=True, eq=False, kw_only=True)
class Ascended(Denoised):
    """The loss of training times -1, of each example up to ``cap``."""

    cap: float | None = None

    def each(self, model: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
        """Return the loss of each example, shape [B]."""
        found = super().each(model, batch, generator)
        return -(found if self.cap is None else found.clamp(max=self.cap))


@dataclass(frozen=True, eq=False, kw_only=True)
class Distilled(ExampleLoss):
    """What the original answers: 0 for a model that has not moved."""

    teacher: Denoiser

    def each(self, model: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
        """Return the loss of each example, shape [B]."""
        assert isinstance(model, Denoiser)
        device = device_of(model)
        seen = self.noised(batch, generator, device)
        told = self.told(self.dropped(seen.rows, generator), device)
        with torch.no_grad():
            wanted = self.teacher.to(device).predict(seen.mixed, seen.times, told)
        return squared(model.predict(seen.mixed, seen.times, told), wanted)


Source = Literal["anchor", "random", "null", "own"]
"""A prompt that a target is made of: that of the anchor, of any kept image, none, or the concept's own."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Led(ExampleLoss):
    """Answer for a concept what a teacher answers for other prompts; a sum of such answers whose weights sum to 1.

    Attributes:
        teacher: the original; ``None``: the model as it is now, which may drift with its pupil.
        mix: the weight of each answer, and its prompt.
        anchors: row of the anchor of each caption, shape [captions].
        others: rows of kept prompts.
        path: where given, images come from the way from noise to the concept, with guidance, and the batch's are
            not looked at.
    """

    teacher: Denoiser | None
    mix: tuple[tuple[float, Source], ...]
    anchors: Tensor | None = None
    others: Tensor | None = None
    path: Drawer | None = None

    def each(self, model: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
        """Return the loss of each example, shape [B]."""
        assert isinstance(model, Denoiser)
        device = device_of(model)
        seen = self.noised(batch, generator, device)
        mixed, times = seen.mixed, seen.times
        if self.path is not None:
            mixed, times = self._on_the_way(self.path, seen, generator, device)
        teacher = model if self.teacher is None else self.teacher.to(device)
        with evaluating(teacher):  # without dropout, where it is the pupil
            wanted = torch.zeros_like(mixed)
            for weight, source in self.mix:
                told = self.told(self._rows(source, seen, generator), device)
                wanted += weight * teacher.predict(mixed, times, told)
        return squared(model.predict(mixed, times, self.told(seen.rows, device)), wanted)

    def _rows(self, source: Source, seen: Noised, generator: torch.Generator) -> Tensor:
        if source == "own":
            return seen.rows
        if source == "null":
            return torch.full_like(seen.rows, NONE)
        if source == "anchor":
            assert self.anchors is not None
            return self.anchors[seen.captions]
        assert self.others is not None
        return _drawn(self.others, len(seen.rows), generator)

    def _on_the_way(
        self, path: Drawer, seen: Noised, generator: torch.Generator, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Go a random number of steps from noise to the concept; draw a time between that step and the next."""
        path.denoiser.to(device)
        count = int(torch.randint(path.steps, (), generator=generator))
        seeds = torch.randint(2**62, (len(seen.rows),), generator=generator).tolist()
        with torch.no_grad():
            mixed, times = path.walk(seen.rows, [torch.Generator().manual_seed(seed) for seed in seeds], count)
        after = times[count + 1].item() if count + 1 < len(times) else 0.0
        share = torch.rand(len(seen.rows), generator=generator)
        drawn = after + (times[count].item() - after) * share
        return mixed, (drawn if times.is_floating_point() else drawn.round().long()).to(device)


@dataclass(frozen=True, eq=False)
class Joint:
    """A player's loss on a batch of `amnesty.data.Together`: to each origin its own."""

    losses: Sequence[ExampleLoss]

    def __call__(self, model: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
        """Return the scalar loss: the mean over all examples, whichever their origin."""
        (latents, captions), origin = batch
        found = []
        for k, loss in enumerate(self.losses):
            mine = origin == k
            if mine.any():
                found.append(loss.each(model, (latents[mine], captions[mine]), generator))
        return torch.cat(found).mean()


def _drawn(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return rows[torch.randint(len(rows), (count,), generator=generator)]
