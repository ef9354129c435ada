"""Image generators: what they were asked for must be drawn as something else, everything else as before."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from amnesty.data import Together, dataset_of
from amnesty.errors import InvalidInputError, ModelError, one_line
from amnesty.seeds import derive
from amnesty.tasks.base import Loss, Role, Source, device_of, evaluating
from amnesty.tasks.diffusion.arguments import check_settings, checked_concepts, checked_size, moving, prompts_in
from amnesty.tasks.diffusion.concepts import Concept, Prompt, check_prompt
from amnesty.tasks.diffusion.conditions import NONE, Captions, Conditions
from amnesty.tasks.diffusion.denoiser import Denoiser, Question
from amnesty.tasks.diffusion.families import family_of, parameters_of
from amnesty.tasks.diffusion.latents import Latents, drawn, encoded
from amnesty.tasks.diffusion.losses import (
    Ascended,
    Denoised,
    Distilled,
    ForgetLoss,
    Joint,
    Led,
    Process,
    RetainLoss,
)
from amnesty.tasks.diffusion.noising import noising_of
from amnesty.tasks.diffusion.parts import parts_of, with_part
from amnesty.tasks.diffusion.reading import last_tokens, reading
from amnesty.tasks.diffusion.sampling import Drawer, noiseless
from amnesty.tasks.diffusion.stored import Stored
from amnesty.tasks.task import Task, Wish
from amnesty.tasks.zero_shot.towers import shared_copy


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How the original draws what there are no images of.

    Args:
        per_prompt: images of each prompt.
        steps: of the sampler.
        guidance: as diffusers counts; ``None``: what is common for this kind of model.
        batch_size: images at once.
    """

    per_prompt: int = 8
    steps: int = 50
    guidance: float | None = None
    batch_size: int = 16

    def __post_init__(self) -> None:
        for name in ("per_prompt", "steps", "batch_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidInputError(f"`{name}` must be a whole number of at least 1, found {value!r}.")


class Diffusion(Task):
    """A diffusion model that must no longer draw some concepts, and draw everything else as well as before.

    Args:
        pipeline: of diffusers (Stable Diffusion 1 to 3 and XL, PixArt, DiT), or a mapping or an object that has its
            parts by name: ``unet`` or ``transformer``, ``scheduler``, and ``vae``, ``text_encoder``, ``tokenizer``
            where there are any. It is never changed.
        forget: a `Concept`, or several by name, each of which is a player.
        retain: a data set of pairs of an image and its prompt (or class), or prompts alone, whose images the original
            draws.
        captions: what the labels of ``retain`` mean to a model that reads texts: label -> prompt, or several.
        train: what may move: ``"xattn"`` (cross-attention), ``"xattn_kv"``, ``"selfattn"``, ``"noxattn"``,
            ``"notime"``, ``"full"``, ``"esd_u"``, ``"conditioning"``, ``"context"``, as far as a model has it, or a
            compiled regular expression of names of parameters. ``None``: cross-attention where there is one, of a
            model that knows classes what reads them.
        lora: put adapters on the linear layers of that group: their rank, or the arguments of ``peft.LoraConfig``.
        forget_loss: the squared distance, at the same noise and time, of what the model answers for the concept from

            - ``"anchor"``: what the original answers for the anchor (MUNBa, SalUn);
            - ``"random"``: ... for a kept prompt, drawn anew for each image: it spreads the concept over all;
            - ``"null"``: ... for no prompt: what is drawn then may be the concept by chance;
            - ``"esd"``: ``n - eta (c - n)``, n and c being what it answers for no prompt and for the concept;

            or the loss of training with ``"noise"`` as images (Selective Amnesia), or with ``"misalign"``, prompts of
            others. ``"auto"``: ``"anchor"`` where every concept has one, else ``"esd"``.
        retain_loss: ``"distill"``, the squared distance from what the original answers for kept images: it has no
            noise of its own, and no slope before anything has moved; ``"denoise"``, the loss of training on them,
            as published.
        eta: of ``"esd"``.
        teacher: whose answers lead: the ``"original"``, or the model as it is (``"current"``), as the authors of
            SalUn and MUNBa have it: it may drift with its pupil.
        drawing: see `Drawing`.
        prompt_drop: share of the kept images whose prompt is left out, so that guidance stays what it was.
        image_size: to which images are resized, in pixels, a number or height and width; ``None``: they must have the
            size that the model was made for.
        gradient_checkpointing: compute activations twice to save memory.
        cache: a folder for encoded and drawn images, for later runs.

    Raises:
        ModelError: the parts are no generator that is known, or do not fit each other.
        InvalidInputError, UnknownNameError: prompts, names or numbers that cannot be used.
        MissingExtraError: peft is not installed.

    Source: Wu & Harandi, MUNBa, arXiv:2411.15537, Section 4.3; Gandikota et al., ESD, arXiv:2303.07345, Eq. 6; Fan et
    al., SalUn, arXiv:2310.12508, Eq. 7; Heng & Soh, Selective Amnesia, arXiv:2305.10120.
    """

    model: Denoiser

    def __init__(
        self,
        pipeline: Any,
        *,
        forget: Concept | Mapping[str, Concept],
        retain: Any,
        captions: Mapping[Any, Prompt | Sequence[Prompt]] | None = None,
        train: str | re.Pattern[str] | None = None,
        lora: int | Mapping[str, Any] | None = None,
        forget_loss: ForgetLoss = "auto",
        retain_loss: RetainLoss = "distill",
        eta: float = 1.0,
        teacher: Literal["original", "current"] = "original",
        drawing: Drawing | None = None,
        prompt_drop: float = 0.1,
        image_size: int | tuple[int, int] | None = None,
        gradient_checkpointing: bool = False,
        cache: str | Path | None = None,
    ) -> None:
        self.concepts = checked_concepts(forget)
        check_settings(forget_loss, retain_loss, teacher, eta, prompt_drop)
        self.parts_of_generator = parts = parts_of(pipeline)
        family = family_of(parts.backbone)
        noising = noising_of(parts.scheduler, flow=family.flow)
        self.size, self._resized = checked_size(parts, image_size), image_size is not None
        self.drawing, self._stored = drawing or Drawing(), Stored(None if cache is None else Path(cache))
        conditions = Conditions(self._told)
        self._captions = Captions(conditions)
        self.process = Process(noising, conditions, self._captions, prompt_drop)
        self.original = Denoiser(shared_copy(parts.backbone).eval(), family)
        self.kind, self._labels = family, dict(captions or {})
        self._images = {name: self._images_of(name, concept) for name, concept in self.concepts.items()}
        self._anchors = [
            self.process.conditions.rows([c.anchor])[0] if c.anchor is not None else -1
            for c in self.concepts.values()
        ]
        self._given_prompts = prompts_in(retain)
        kept = self._kept_images(retain)
        self.forget_loss, self.retain_loss = self._chosen(forget_loss), retain_loss
        self.eta, self.teacher = eta, teacher
        model = moving(parts.backbone, parameters_of(parts.backbone, train), lora, gradient_checkpointing)
        forgotten: Any = self._images if len(self._images) > 1 else next(iter(self._images.values()))
        super().__init__(Denoiser(model, family), forgotten, {"retain": kept})
        self._checked = False

    # What the players want.

    @property
    def learnt(self) -> Loss:
        """The loss of training."""
        return Denoised(process=self.process)

    def preserved(self) -> Role:
        """Return the retaining player; see ``retain_loss``."""
        if self.retain_loss == "distill":
            return Role("retain", Distilled(process=self.process, teacher=self.original))
        return Role("retain", Denoised(process=self.process, drop=True))

    def wished(self, wish: Wish, cap: float | None = None) -> Role:
        """Return a forgetting player: ``"auto"`` is the task's ``forget_loss``, ``"relabel"`` is `relabelled`.

        Raises:
            InvalidInputError: ``"unseen"`` or ``"shifted"``, which generators do not have.
        """
        if wish in ("unseen", "shifted"):
            raise InvalidInputError(f"A generator has no unseen examples: use wish='auto', found {wish!r}.")
        if wish == "ascend":
            return self.ascended(cap)
        return self.forgetting(self.forget_loss) if wish == "auto" else self.relabelled(wish == "relabel")

    def ascended(self, cap: float | None = None) -> Role:
        """Return a forgetting player that unlearns by a higher loss of training, of each image up to ``cap``."""
        if cap is not None and not cap > 0:
            raise InvalidInputError(f"`cap` must be positive, found {cap}.")
        return Role("forget", Ascended(process=self.process, cap=cap))

    def relabelled(self, exclude_true: bool = True) -> Role:
        """Return a forgetting player: what the original answers for something else, as the task's loss has it.

        Where that is no answer of the original, and with ``"random"``, it is that for any kept prompt, drawn anew for
        each image; without ``exclude_true`` the concepts' own prompts are among them.
        """
        if self.forget_loss in ("anchor", "null", "esd"):
            return self.forgetting(self.forget_loss)
        own = [] if exclude_true else [prompt for concept in self.concepts.values() for prompt in concept.asked]
        others = torch.cat([self._others, torch.tensor(self.process.conditions.rows(own), dtype=torch.int64)])
        return Role("forget", self._led("random", others=others))

    def forgetting(self, loss: ForgetLoss) -> Role:
        """Return a forgetting player by the name of its loss; see ``forget_loss``.

        Raises:
            InvalidInputError: a concept lacks the anchor that the loss needs.
        """
        if loss == "noise":
            return Role("forget", Denoised(process=self.process, empty=True))
        if loss == "misalign":
            return Role("forget", Denoised(process=self.process, others=self._others))
        return Role("forget", self._led(self._chosen(loss)))

    def erased(self, eta: float, guidance: float, steps: int, count: int) -> tuple[Role, Latents]:
        """Return a forgetting player that needs no images, and its data: ``"esd"`` on the way to the concept.

        Args:
            eta: how far away from the concept.
            guidance: on the way, as diffusers counts.
            steps: of the whole way, of which each batch goes a random share.
            count: of examples; the concepts take turns.
        """
        sampler = noiseless(self.parts_of_generator.scheduler)
        path = self._drawer(self.original, steps, guidance, sampler)
        numbers = torch.tensor([self._captions.number(c.asked) for c in self.concepts.values()])
        latents = torch.zeros(2 * self._shape[0], *self._shape[1:]).expand(count, -1, -1, -1)
        data = Latents(count, lambda: (latents, numbers[torch.arange(count) % len(numbers)]))
        return Role("asked", self._led("esd", path=path, eta=eta)), data

    def read(self, model: Denoiser, prompts: Sequence[Prompt | None]) -> tuple[dict[str, Tensor], Tensor]:
        """Return what the layers that read prompts get of each, and where in it the prompt's last token is.

        Args:
            model: is run in evaluation mode.
            prompts: ``None`` stands for no prompt.

        Returns:
            Name of a linear layer -> its inputs, shape [n, L, d]; positions, shape [n].

        Raises:
            InvalidInputError: the model has no layers that read texts alone.
        """
        rows = torch.tensor([NONE if p is None else self.process.conditions.rows([p])[0] for p in prompts])
        return reading(model, self._question(), self.process.conditions, rows), last_tokens(
            self.parts_of_generator, prompts
        )

    def _led(
        self, loss: str, *, others: Tensor | None = None, path: Drawer | None = None, eta: float | None = None
    ) -> Led:
        eta = self.eta if eta is None else eta
        mixes: dict[str, Any] = {
            "anchor": ((1.0, "anchor"),),
            "random": ((1.0, "random"),),
            "null": ((1.0, "null"),),
            "esd": ((1.0 + eta, "null"), (-eta, "own")),
        }
        return Led(
            process=self.process,
            teacher=None if self.teacher == "current" else self.original,
            mix=mixes[loss],
            anchors=torch.tensor(self._anchors),
            others=self._others if others is None and loss == "random" else others,
            path=path,
        )

    def together(self, forget: Role, retain: Role, retained: Source | None = None) -> tuple[Role, Together]:
        """Return one player for both parts; see `amnesty.tasks.Task.together`."""
        sources = {"forget": self.parts["forget"], "retain": self.parts["retain"] if retained is None else retained}
        losses: list[Any] = [forget.loss, retain.loss]
        return Role("together", Joint(losses)), Together([dataset_of(data, name) for name, data in sources.items()])

    # What is in it.

    @property
    def settings(self) -> dict[str, Any]:
        """What decides beside the model, the data and the method where a run ends."""
        told = self.process.conditions.read()
        return {
            **{name: getattr(self, name) for name in ("forget_loss", "retain_loss", "eta", "teacher", "size")},
            "prompt_drop": self.process.drop,
            "noise": [self.process.noising.prediction, self.process.noising.shift, self.process.noising.alphas],
            "prompts": [str(c.asked) for c in self.concepts.values()] + list(map(str, self._captions.prompts)),
            "told": dict(told),
            "anchors": self._anchors,
        }

    @property
    def retrainable(self) -> bool:
        """Say no: images of some prompts alone make no generator."""
        return False

    @property
    def kept(self) -> tuple[Prompt, ...]:
        """The prompts of what is kept, each once; of a data set, all of it is read for them."""
        return self._kept_prompts()

    @property
    def probe(self) -> Question:
        """A question about noise, for the first prompts that are to be forgotten."""
        return self._question()

    def check(self) -> None:
        """Encode every image that was given, and ask the model once.

        Raises:
            DataError, ShapeError: images that cannot be used.
            InvalidInputError: what is kept is also to be forgotten.
            ModelError: the model cannot be asked, or its answer is of another shape or not finite.
        """
        if self._checked:
            return
        self.process.conditions.read()
        for latents in self._of_yours:
            assert len(latents.tensors[0]) == len(latents)
        both = {p for c in self.concepts.values() for p in c.asked} & set(self.kept)
        if both:
            raise InvalidInputError(
                f"{sorted(map(str, both))[0]!r} is to be forgotten and kept: take it out of `retain`."
            )
        question = self._question().to(device_of(self.model))
        try:
            with evaluating(self.model):
                found = self.model.predict(question.images, question.times, question.told)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise ModelError(f"The model cannot be asked: {one_line(error)}") from error
        if found.shape != question.images.shape or not found.isfinite().all():
            raise ModelError(
                f"The model must answer with finite numbers of the shape {list(question.images.shape)}, found "
                f"{list(found.shape)}."
            )
        self._checked = True

    # What it draws.

    def drawer(
        self,
        model: Denoiser | None = None,
        *,
        steps: int = 50,
        guidance: float | None = None,
        batch_size: int = 16,
    ) -> Drawer:
        """Return who draws with a model; ``None`` is the original.

        Args:
            model: as a run returned it.
            steps: of the pipeline's own sampler.
            guidance: as diffusers counts; ``None``: what is common for this kind of model.
            batch_size: images at once.
        """
        return dataclasses.replace(self._drawer(model or self.original, steps, guidance, None), batch_size=batch_size)

    def pipeline_of(self, model: Denoiser) -> Any:
        """Return the generator with another model's backbone, adapters merged; what was given stays as it was."""
        given, name = self.parts_of_generator.given, self.parts_of_generator.name
        plain: Any = model.plain().to(self.parts_of_generator.backbone.dtype)  # halves again where they were
        return with_part(given, name, plain)

    def _question(self) -> Question:
        rows = torch.tensor(self.process.conditions.rows([c.asked[0] for c in self.concepts.values()]))
        random = torch.Generator().manual_seed(0)
        times = self.process.noising.times(len(rows), random)
        noise = torch.randn(len(rows), *self._shape, generator=random)
        return Question(noise, times, self.process.conditions(rows, torch.device("cpu")))

    @property
    def _shape(self) -> tuple[int, ...]:
        """Of what the backbone works on: channels, height, width."""
        parts = self.parts_of_generator
        return (parts.channels, *(side // parts.factor for side in self.size))

    @property
    def _of_yours(self) -> list[Latents]:
        """The parts whose images were given."""
        found = [self._images[name] for name, concept in self.concepts.items() if concept.images is not None]
        kept: Any = self.parts["retain"]
        return found + ([kept] if self._given_prompts is None else [])

    def _drawer(self, model: Denoiser, steps: int, guidance: float | None, scheduler: Any) -> Drawer:
        return Drawer(
            denoiser=model,
            parts=self.parts_of_generator,
            conditions=self.process.conditions,
            size=self.size,
            steps=steps,
            guidance=self.kind.guidance if guidance is None else guidance,
            scheduler=scheduler,
        )

    # How it is made.

    def _told(self, prompts: Sequence[Prompt] | None) -> dict[str, Tensor]:
        with torch.no_grad():
            return self.kind.tell(self.parts_of_generator, prompts, self.size)

    def _images_of(self, name: str, concept: Concept) -> Latents:
        number = self._captions.number(concept.asked)
        if concept.images is not None:
            return self._encoded(concept.images, f"the concept {name!r}", lambda label: number)
        return self._drawn([number] * (self.drawing.per_prompt * len(concept.asked)))

    def _kept_images(self, retain: Any) -> Latents:
        if self._given_prompts is None:
            return self._encoded(retain, "the retain set", self._captioned)
        numbers = [self._captions.number((prompt,)) for prompt in self._given_prompts]
        return self._drawn([number for number in numbers for _ in range(self.drawing.per_prompt)])

    def _captioned(self, label: Any) -> int:
        """Return the number of the caption that a label of the retain set means."""
        if label is None:
            raise InvalidInputError(
                "An image of the retain set has no caption: give pairs of an image and its prompt."
            )
        if isinstance(label, Tensor) and label.numel() == 1:
            label = label.item()
        if self._labels:
            if not isinstance(label, Hashable) or label not in self._labels:
                raise InvalidInputError(f"`captions` lacks the label {label!r} of the retain set.")
            found = self._labels[label]
            prompts = (found,) if isinstance(found, str | int) else tuple(found)
        else:
            prompts = (int(label) if isinstance(label, np.integer) else label,)
        for prompt in prompts:
            check_prompt(prompt)
        return self._captions.number(prompts)

    def _encoded(self, data: Any, name: str, caption: Any) -> Latents:
        size = self.size if self._resized else None
        return encoded(data, name, self.parts_of_generator, size, caption, self._stored)

    def _drawn(self, numbers: list[int]) -> Latents:
        how = self.drawing
        drawer = dataclasses.replace(
            self._drawer(self.original, how.steps, how.guidance, None), batch_size=how.batch_size
        )
        seeds = [derive(0, "drawn", number, k) for k, number in enumerate(numbers)]
        return drawn(self._captions, numbers, seeds, drawer.latents, lambda: str(drawer.describe), self._stored)

    def _kept_prompts(self) -> tuple[Prompt, ...]:
        if self._given_prompts is not None:
            return self._given_prompts
        retained: Any = self.parts["retain"]
        numbers = dict.fromkeys(retained.tensors[1].tolist())
        return tuple(dict.fromkeys(prompt for number in numbers for prompt in self._captions.prompts_of(number)))

    @property
    def _others(self) -> Tensor:
        """Rows of the prompts of what is kept."""
        return torch.tensor(self.process.conditions.rows(self.kept))

    def _chosen(self, loss: ForgetLoss) -> ForgetLoss:
        lacking = [name for name, concept in self.concepts.items() if concept.anchor is None]
        if loss == "anchor" and lacking:
            raise InvalidInputError(
                f"`forget_loss='anchor'` needs an anchor for every concept, and {lacking[0]!r} has none."
            )
        if loss == "auto":
            return "esd" if lacking else "anchor"
        return loss
