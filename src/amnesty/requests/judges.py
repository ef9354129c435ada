"""Who judges what an image generator draws, as a request names them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from amnesty.errors import InvalidInputError
from amnesty.evaluation import ClipScorer, Judge, NudeNet
from amnesty.requests.concepts_request import ConceptRequest, JudgeSpec
from amnesty.requests.drawn_data import Shown, Wanted, unlabelled
from amnesty.requests.inputs import inputs_of
from amnesty.requests.loaded import quiet
from amnesty.requests.models import load_model
from amnesty.requests.request import InputsSpec
from amnesty.studies.calling import call
from amnesty.tasks.diffusion import Diffusion, Prompt


@dataclass(frozen=True, kw_only=True)
class Judges:
    """All that look at drawn images; each may be missing. See `amnesty.evaluation.GenerationEvaluator`.

    Attributes:
        judge: says what images show. features: of which distances from ``real`` images are taken.
        clip: says how well images fit their prompts. nudity: finds naked people.
        kept: the kept prompts that are drawn for.
    """

    judge: Judge | None
    features: nn.Module | None
    real: Any
    clip: ClipScorer | None
    nudity: Any
    kept: tuple[Prompt, ...]

    @property
    def arguments(self) -> dict[str, Any]:
        """As the evaluator takes them."""
        return {**vars(self)}


def load_judges(request: ConceptRequest, task: Diffusion, device: torch.device) -> Judges | None:
    """Load those that a request names; ``None`` if it names none.

    Raises:
        ModelError, DataError, InvalidInputError, UnknownNameError: one cannot be loaded, or the judge does not know
            what a prompt asks for.
        MissingExtraError: a package is missing.
        OSError: a file cannot be read.
    """
    spec = request.evaluation
    if spec.judge is None and spec.real is None and spec.clip is None and not spec.nudity:
        return None
    kept = spread(task.kept, spec.kept_prompts)
    wanted = Wanted(task.parts_of_generator.image_channels, task.size, resized=True)
    with quiet():
        clip = None if spec.clip is None else ClipScorer.load(spec.clip)
    if clip is not None:
        clip.model.to(device)
    return Judges(
        judge=None if spec.judge is None else _judge(spec.judge, task, kept, device),
        features=None if spec.features is None else _network(spec.features).to(device),
        real=None if spec.real is None else Shown(unlabelled(spec.real, wanted), "the real images", wanted),
        clip=clip,
        nudity=NudeNet() if spec.nudity else None,
        kept=kept,
    )


def spread(prompts: tuple[Prompt, ...], most: int) -> tuple[Prompt, ...]:
    """Return at most so many prompts, taken evenly from the first to the last.

    >>> spread(("a", "b", "c", "d", "e"), 3)
    ('a', 'c', 'e')
    """
    at = np.linspace(0, len(prompts) - 1, min(most, len(prompts))).round().astype(int)
    return tuple(prompts[i] for i in at)


def _judge(spec: JudgeSpec, task: Diffusion, kept: tuple[Prompt, ...], device: torch.device) -> Judge:
    loaded = load_model(spec.model)
    inputs, _ = inputs_of(spec.model, spec.inputs)
    judge = Judge(
        model=Prepares(loaded.model, inputs).to(device).eval(),
        classes=_classes(spec, task),
        names=spec.class_names or loaded.class_names,
        among=spec.among,
    )
    for prompt in (*(p for concept in task.concepts.values() for p in concept.asked), *kept):
        try:
            judge.class_of(prompt)
        except InvalidInputError as error:
            raise InvalidInputError(
                f"`evaluation.judge.classes` must say which class images of {prompt!r} are to show: its number"
                f"{' or name' if judge.names else ''}, or null for a kept prompt that the judge does not know."
            ) from error
    return judge


def _classes(spec: JudgeSpec, task: Diffusion) -> dict[Prompt, int | str | None]:
    """Return the classes by prompt; keys of a request are texts, and those of a model that knows classes numbers.

    Raises:
        InvalidInputError: such a key is no number.
    """
    if not task.kind.labels:
        return {prompt: number for prompt, number in spec.classes.items()}  # noqa: C416 (of texts and numbers)
    wrong = [name for name in spec.classes if not name.isdecimal()]
    if wrong:
        raise InvalidInputError(f"`evaluation.judge.classes` must name classes of the model, found {wrong[0]!r}.")
    return {int(name): number for name, number in spec.classes.items()}


class Prepares(nn.Module):
    """Makes images, float32 in [0, 1], shape [B, C, H, W], the inputs of a classifier, and returns its logits.

    Args:
        network: the classifier; it may return an object with ``logits``.
        inputs: size, channels, mean and deviation of what it was trained with.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, inputs: InputsSpec) -> None:
        super().__init__()
        self.network, self._size, self._channels = network, inputs.size, inputs.channels
        for name, numbers, neutral in (("mean", inputs.mean, 0.0), ("std", inputs.std, 1.0)):
            self.register_buffer(name, torch.tensor(numbers or (neutral,)).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, shape [B, K]."""
        if self._channels == 3 and images.shape[1] == 1:
            images = images.expand(-1, 3, -1, -1)
        elif self._channels == 1 and images.shape[1] == 3:
            images = (images * images.new_tensor(_GREY).view(1, 3, 1, 1)).sum(1, keepdim=True)
        if self._size is not None and tuple(images.shape[2:]) != tuple(self._size):
            images = F.interpolate(images, self._size, mode="bilinear", antialias=True)
        found = self.network((images - self.mean) / self.std)
        logits: Tensor = getattr(found, "logits", found)
        return logits


_GREY = (0.299, 0.587, 0.114)  # as Pillow weighs colours


def _network(name: str) -> nn.Module:
    made = call(name)
    if not isinstance(made, nn.Module):
        raise InvalidInputError(f"{name} must return a network, `torch.nn.Module`, found {type(made).__name__}.")
    return made.eval()
