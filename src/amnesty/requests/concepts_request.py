"""What a deletion request for an image generator says beside what all requests say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from amnesty.requests.request import BaseRequest, InputsSpec, KeptAdapters, ModelSpec, SourceSpec
from amnesty.tasks.diffusion import Drawing, ForgetLoss, Prompt, RetainLoss

Teacher = Literal["original", "current"]


@dataclass(frozen=True, kw_only=True)
class ConceptSpec:
    """A concept to forget; see `amnesty.tasks.diffusion.Concept`.

    Attributes:
        prompts: that ask for it.
        file: of prompts, one a line, in place of ``prompts``.
        anchor: what is to be drawn instead.
        images: of it; ``None``: the original draws them.
    """

    prompts: tuple[Prompt, ...] = ()
    file: Path | None = None
    anchor: Prompt | None = None
    images: SourceSpec | None = None


@dataclass(frozen=True, kw_only=True)
class KeptSpec:
    """What a generator goes on to draw: prompts, a file of them, or images with captions or labels.

    Attributes:
        prompts: whose images the original draws.
        file: of prompts, one a line.
        images: where images come from.
        labelled: whether labels stand beside the images; otherwise captions do.
        templates: what the names of labels are put into; without any, labels are the model's own classes.
        class_names: better words for the labels than those of the data.
    """

    prompts: tuple[Prompt, ...] = ()
    file: Path | None = None
    images: SourceSpec | None = None
    labelled: bool = False
    templates: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class DiffusionSpec:
    """How a generator is unlearned; as for `amnesty.tasks.diffusion.Diffusion` where nothing else is told.

    Attributes:
        adapters: whether low-rank adapters are merged into the saved model, or saved alone.
    """

    train: str | None = None
    lora: int | Mapping[str, Any] | None = None
    adapters: KeptAdapters = "merged"
    forget_loss: ForgetLoss = "auto"
    retain_loss: RetainLoss = "distill"
    eta: float = 1.0
    teacher: Teacher = "original"
    drawing: Drawing = field(default_factory=Drawing)
    prompt_drop: float = 0.1
    image_size: tuple[int, int] | None = None
    gradient_checkpointing: bool = False
    cache: Path | None = None


@dataclass(frozen=True, kw_only=True)
class JudgeSpec:
    """A classifier that says what drawn images show.

    Attributes:
        model: which; see `ModelSpec`.
        classes: a prompt -> the judge's class, by number or name; ``None`` for a kept one that the judge does not
            know. See `amnesty.evaluation.Judge`.
        class_names: of the judge's classes, where it does not name them itself.
        among: the classes that count; ``None``: all.
        inputs: how images become the judge's inputs.
    """

    model: ModelSpec
    classes: Mapping[str, int | str | None] = field(default_factory=dict)
    class_names: tuple[str, ...] | None = None
    among: tuple[int | str, ...] | None = None
    inputs: InputsSpec = field(default_factory=InputsSpec)


@dataclass(frozen=True, kw_only=True)
class JudgingSpec:
    """How what is drawn is judged, before and after; see `amnesty.evaluation.GenerationEvaluator`.

    Attributes:
        per_prompt: images of each forgotten prompt.
        kept_per_prompt: images of each kept prompt; ``None``: as many.
        kept_prompts: at most so many of the kept prompts, taken evenly from all of them.
        steps, guidance, batch_size: of the sampler; see `Drawing`.
        judge: see `JudgeSpec`.
        real: images of what is kept, for the distances of Frechet and of kernels.
        features: a function that returns what these are taken of; ``None``: Inception, whose weights are fetched.
        clip: folder of a CLIP model with its processor, which says how well images fit their prompts.
        nudity: whether to look for naked people.
    """

    per_prompt: int = 20
    kept_per_prompt: int | None = None
    kept_prompts: int = 50
    steps: int = 50
    guidance: float | None = None
    batch_size: int = 16
    judge: JudgeSpec | None = None
    real: SourceSpec | None = None
    features: str | None = None
    clip: Path | None = None
    nudity: bool = False


@dataclass(frozen=True, kw_only=True)
class ConceptRequest(BaseRequest):
    """A deletion request for an image generator.

    Attributes:
        kept: see `KeptSpec`.
        forget: name of a concept -> see `ConceptSpec`; one called ``"forget"`` where there is only one.
        diffusion, evaluation: see `DiffusionSpec` and `JudgingSpec`.
    """

    kept: KeptSpec
    forget: Mapping[str, ConceptSpec]
    diffusion: DiffusionSpec = field(default_factory=DiffusionSpec)
    evaluation: JudgingSpec = field(default_factory=JudgingSpec)
