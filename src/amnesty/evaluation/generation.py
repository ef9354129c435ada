"""One diffusion task, many models: what each draws for the same prompts and seeds, scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from amnesty.errors import InvalidInputError, ModelError
from amnesty.evaluation.clip_score import ClipScorer
from amnesty.evaluation.drawn import Drawn, Draws, Tell, draw_images, key_of, planned
from amnesty.evaluation.gaps import average_gap, runtime_efficiency
from amnesty.evaluation.generation_measures import Asked, Instruments, Seen
from amnesty.evaluation.intervals import paired_difference
from amnesty.evaluation.judging import Judge
from amnesty.evaluation.measures import SUFFIXES, base, of_another, of_original
from amnesty.evaluation.nudity import Detector
from amnesty.evaluation.scores import Scores
from amnesty.files import write_json
from amnesty.tasks.diffusion import Denoiser, Diffusion, Prompt

GAP_PARTS_DRAWN = ("drawn_forget_accuracy", "drawn_retain_accuracy")
"""What `average_gap` averages over for a generator."""

DETECTIONS = "detections.json"


class GenerationEvaluator:
    """Scores image generators on a diffusion task, all on the same prompts and seeds; see `Scores`.

    Every model begins with the same noise: an image has a seed of its own, from its prompt and number. The original
    is the task's model; it draws when it is first needed. Neither models nor the caller's random generators change.
    Without anything that looks at the images they are drawn, and nothing is told of them.

    Args:
        task: what was to be forgotten and kept.
        judge: a classifier of images, or a `Judge`, which says which class each prompt asks for.
        features: what distances from real images are taken of: images, float32 in [0, 1], shape [B, C, H, W] ->
            features, shape [B, d]. ``None``: Inception, whose weights are fetched.
        real: real images of what is kept, such as a data set, in the same shares as the prompts ask for.
        other_real: further such images, for the floor.
        clip: how well images fit texts: the folder of a CLIP model of transformers, a pair of a ``CLIPModel`` and its
            ``CLIPProcessor``, or a `ClipScorer`.
        nudity: finds naked people, such as `NudeNet`.
        forgotten: concept -> prompts to ask with, such as other words for it; ``None``: those of the task.
        kept: prompts to ask with; ``None``: those of the task.
        per_prompt: images of each forgotten prompt.
        kept_per_prompt: images of each kept prompt; ``None``: as many.
        steps: of the sampler.
        guidance: as diffusers counts; ``None``: what is common for this kind of model.
        batch_size: images at once.
        folder: where the images are kept, a folder for each model: ``original``, ``reference``, and ``model-`` with a
            hash. What is there already is not drawn again. ``None`` keeps those of original, reference and the model
            that was scored last in memory.
        reference: a generator that never met what is forgotten, or its scores.
        reference_seconds: what training it took, for ``runtime_efficiency``.
        seed: of all draws.
        progress: ``True`` shows a bar; a function is called after every batch, with how many images there are, and of
            how many.

    Raises:
        InvalidInputError: prompts or numbers cannot be used, or the judge cannot know what a prompt asks for.
        ModelError, DataError: a network cannot take such images; real images that are none.
        MissingExtraError: torchmetrics, torch-fidelity or transformers is not installed, and needed.

    Example:
        ::

            judge = amnesty.evaluation.Judge(model=classifier, names=("cat", "dog"))
            evaluator = amnesty.evaluation.GenerationEvaluator(task, judge=judge, folder="images")
            scores = evaluator(outcome.model, seconds=outcome.seconds)
    """

    def __init__(
        self,
        task: Diffusion,
        *,
        judge: Judge | nn.Module | None = None,
        features: nn.Module | None = None,
        real: Any = None,
        other_real: Any = None,
        clip: ClipScorer | str | Path | tuple[Any, Any] | None = None,
        nudity: Detector | None = None,
        forgotten: Mapping[str, Sequence[Prompt]] | None = None,
        kept: Sequence[Prompt] | None = None,
        per_prompt: int = 100,
        kept_per_prompt: int | None = None,
        steps: int = 50,
        guidance: float | None = None,
        batch_size: int = 16,
        folder: str | Path | None = None,
        reference: Denoiser | Mapping[str, float] | None = None,
        reference_seconds: float | None = None,
        seed: int = 0,
        progress: bool | Tell = False,
    ) -> None:
        if not isinstance(task, Diffusion):
            raise InvalidInputError(
                f"Drawn images are scored on an `amnesty.Diffusion` task, found {type(task).__name__}; classifiers "
                "are by `amnesty.evaluate`."
            )
        self.task, self._progress, self._batch_size = task, progress, batch_size
        self._drawing: dict[str, Any] = {"steps": steps, "guidance": guidance, "batch_size": batch_size}
        asked = _asked(task, forgotten, kept)
        self._counts = {
            **dict.fromkeys(asked.gone, per_prompt),
            **dict.fromkeys(asked.kept, per_prompt if kept_per_prompt is None else kept_per_prompt),
        }
        planned(self._counts, seed)
        self._seed, self._folder = seed, None if folder is None else Path(folder)
        self._instruments = Instruments(asked, judge, features, real, other_real, clip, nudity, seed)
        blank = torch.zeros(2, task.parts_of_generator.image_channels, *task.size, dtype=torch.uint8)
        self._instruments.check(blank, sum(self._counts[prompt] for prompt in asked.kept))
        self._given, self._reference_seconds = reference, reference_seconds
        self._names = {key_of(self._drawer(task.model).describe): "original"}
        if isinstance(reference, nn.Module):
            self._names.setdefault(key_of(self._drawer(reference).describe), "reference")
        self._drawn: dict[str, Drawn] = {}
        self._seen: dict[str, Seen] = {}

    @property
    def original(self) -> Scores:
        """The scores of the model before unlearning."""
        return self._scores(self._of_original)

    @property
    def reference(self) -> Scores | None:
        """The scores of the generator that never met what is forgotten."""
        return None if self._of_reference is None else self._scores(self._of_reference)

    def __call__(self, model: Denoiser, *, seconds: float | None = None) -> Scores:
        """Score a model: unlearned, original or reference.

        Args:
            model: such as `amnesty.unlearn` gives.
            seconds: what unlearning took, such as `Outcome.seconds`, to stand among the scores.

        Raises:
            ModelError: the model is no denoiser of the task, or draws what cannot be looked at.
            CheckpointError: the folder holds other images.
        """
        return self._scores(_with(self._look(model), seconds))

    def images(self, model: Denoiser) -> Drawn:
        """Return what a model draws, by prompt; see `Drawn`. Errors as of a call."""
        drawer = self._drawer(model)
        key = key_of(drawer.describe)
        if key not in self._drawn:
            name = self._names.get(key, f"model-{key}")
            found = draw_images(
                drawer,
                self._counts,
                seed=self._seed,
                folder=None if self._folder is None else self._folder / name,
                batch_size=self._batch_size,
                progress=self._progress,
            )
            stay = (k for k in self._drawn if self._folder is not None or k in self._names)
            self._drawn = {**{k: self._drawn[k] for k in stay}, key: found}
        return self._drawn[key]

    @property
    def describe(self) -> dict[str, Any]:
        """How everything is measured, as plain values: to be stored beside the scores."""
        drawer = {k: v for k, v in self._drawer(self.task.model).describe.items() if k != "weights"}
        return {
            "drawer": drawer,
            "seed": self._seed,
            "images": list(map(list, self._counts.items())),
            "forgotten": {name: list(prompts) for name, prompts in self._instruments.asked.forgotten.items()},
            **self._instruments.describe,
        }

    def _drawer(self, model: Denoiser) -> Draws:
        if not isinstance(model, Denoiser):
            raise ModelError(
                f"The model must be a denoiser, such as `amnesty.unlearn` gives, found {type(model).__name__}; that "
                "of a pipeline is `amnesty.Diffusion(pipeline, ...).model`."
            )
        return self.task.drawer(model, **self._drawing)

    def _look(self, model: Denoiser) -> Seen:
        drawn = self.images(model)
        key = key_of(drawn.describe)
        if key not in self._seen:
            seen = self._instruments.take(drawn)
            if seen.detections and drawn.folder is not None:
                listed = {drawn.ids[prompt]: found for prompt, found in seen.detections.items()}
                write_json(drawn.folder / DETECTIONS, {"by": self._instruments.describe["nudity"], "found": listed})
            self._seen[key] = seen
        return self._seen[key]

    @cached_property
    def _of_original(self) -> Seen:
        return self._look(self.task.model)

    @cached_property
    def _of_reference(self) -> Seen | None:
        if self._given is None:
            return None
        seen = self._look(self._given) if isinstance(self._given, nn.Module) else Seen(dict(self._given))
        return _with(seen, self._reference_seconds)

    def _scores(self, own: Seen) -> Scores:
        before = self._of_original
        values = dict(own.numbers) | of_original(before.numbers)
        if len(own.kept_right):
            found = paired_difference(own.kept_right, before.kept_right)
            ends = {"drawn_retain_change_low": found.low, "drawn_retain_change_high": found.high}
            values |= {"drawn_retain_change": found.value, **ends}
        if self._of_reference is not None:
            values |= _beside(own.numbers, self._of_reference.numbers)
        return Scores(values)


def _beside(own: Mapping[str, float], reference: Mapping[str, float]) -> dict[str, float]:
    """Return the reference's numbers, and the distance from it."""
    found = of_another({k: v for k, v in reference.items() if base(k) != "drawn_retain_change"}, "reference")
    if all(part in side for part in GAP_PARTS_DRAWN for side in (own, reference)):
        found["average_gap"] = average_gap(own, reference, GAP_PARTS_DRAWN)
    if own.get("seconds", 0) > 0 and reference.get("seconds", 0) > 0:
        found["runtime_efficiency"] = runtime_efficiency(own["seconds"], reference["seconds"])
    return found


def _with(seen: Seen, seconds: float | None) -> Seen:
    if seconds is None:
        return seen
    return Seen({**seen.numbers, "seconds": seconds}, seen.kept_right, seen.detections)


def _asked(task: Diffusion, forgotten: Mapping[str, Sequence[Prompt]] | None, kept: Sequence[Prompt] | None) -> Asked:
    gone = {name: concept.asked for name, concept in task.concepts.items()} if forgotten is None else forgotten
    if isinstance(kept, str | int) or any(isinstance(prompts, str | int) for prompts in gone.values()):
        raise InvalidInputError("`kept` and each of `forgotten` must be several prompts, found one alone.")
    wrong = [name for name in gone if name.endswith(SUFFIXES)]
    if wrong:
        raise InvalidInputError(
            f"The name of a concept must not end in {', '.join(SUFFIXES)}, which stand for numbers beside a measure; "
            f"found {wrong[0]!r}."
        )
    concepts = {str(name): tuple(prompts) for name, prompts in gone.items()}
    asked = Asked(concepts, tuple(task.kept if kept is None else kept))
    if not asked.kept or not asked.gone or not all(asked.forgotten.values()):
        raise InvalidInputError("Give at least one prompt that is kept, and one of each concept that is forgotten.")
    both = set(asked.gone) & set(asked.kept)
    if both or len(set(asked.gone)) < len(asked.gone) or len(set(asked.kept)) < len(asked.kept):
        raise InvalidInputError("Each prompt must be given once, as forgotten or as kept.")
    return asked
