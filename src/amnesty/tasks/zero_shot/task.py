"""Zero-shot classification by two towers, such as CLIP: the classes are words."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from amnesty.data import Batches
from amnesty.errors import InvalidInputError
from amnesty.seeds import derive, seeded
from amnesty.tasks.base import Loss, Role, Source, device_of, evaluating
from amnesty.tasks.classification import Classification
from amnesty.tasks.forgetting import labelled_as, uniform
from amnesty.tasks.inspection import inspect
from amnesty.tasks.labelled import count_classes, unpack
from amnesty.tasks.objectives import Mean, Objective, blend, cross_entropy, truth
from amnesty.tasks.overlap import refuse_shared_indices
from amnesty.tasks.task import Wish
from amnesty.tasks.teaching import frozen
from amnesty.tasks.zero_shot.adapters import with_adapters
from amnesty.tasks.zero_shot.arguments import (
    ForgetLoss,
    RetainLoss,
    Transfer,
    checked_anchor,
    checked_losses,
    parts_of,
)
from amnesty.tasks.zero_shot.classifier import ZeroShotClassifier, sees_alike
from amnesty.tasks.zero_shot.losses import (
    Added,
    Contrastive,
    Distilled,
    SameFeatures,
    among,
    answers_of,
    repelled,
)
from amnesty.tasks.zero_shot.pixels import Captioned, ImageFeatures, pixels_of, prepared
from amnesty.tasks.zero_shot.towers import Group, library_of, parameters_of, shared_copy
from amnesty.tasks.zero_shot.words import TEMPLATES, Reader, checked_names, checked_templates


class ZeroShot(Classification):
    """A vision-language model, the classes or images that it must forget, and what it must keep.

    Args:
        model: ``CLIPModel`` or ``SiglipModel`` of transformers, or a model of open_clip. It is never changed.
        processor: of the model: one of transformers with a ``tokenizer`` and an ``image_processor``, or a pair
            ``(tokenizer, image processor)``; ``None`` in place of the latter if the data has pixel values.
        class_names: words for the labels, K of them, in the order of the labels.
        templates: what each class name is put into, at ``{}`` or ``{label}``; the features of several are averaged.
        forget, retain, holdout, validation, nonmembers, duplicates: as for `amnesty.Classification`; images may be
            PIL images, uint8 pixels, floats in [0, 1], or pixel values.
        pairs: images with captions to keep, ``(image, caption)``; for ``retain_loss="contrastive"``.
        transfers: other data sets by name, with classes of their own, whose accuracy must stay; for evaluation only.
        captions: images with captions that were not trained on, for recall; for evaluation only.
        forget_captions: images with captions that were trained on and are to be forgotten, whose membership is tested
            against ``captions``; for evaluation only.
        paraphrases: further templates, to see whether forgetting depends on the words; for evaluation only.
        train: which parameters may move: a `Group`, or a compiled regular expression of their names.
        lora: rank of low-rank adapters (peft) on the linear layers of that group, or the arguments of
            ``peft.LoraConfig``; only they then move. ``None``: none.
        retain_loss: what the retaining player wants, or several that are added:
            ``"ce"``: cross-entropy over all class names (the paper's; it pushes the forgotten ones away, too);
            ``"ce_kept"``: over the class names that are kept alone;
            ``"distill"``: the original's answers among ``bank``, or among the class names where there is none;
            ``"feature"``: the original's image features;
            ``"contrastive"``: CLIP's own loss on ``pairs``.
        forget_loss: what the forgetting players want where a method's ``wish`` is ``"auto"``:
            ``"auto"``: as for `amnesty.Classification`: to be told as seldom as what was never met;
            ``"uniform"``: all class names equally likely; ``"anchor"``: the class ``anchor``;
            ``"repel"``: their own name no likelier than the mean of the others.
        anchor: a class name, for ``forget_loss="anchor"``.
        bank: further texts, for ``"distill"``: the more of the language it covers, the more is kept.
        cache: compute the image features of every part once, where the image tower does not move.

    Raises:
        ModelError: the model has not two towers, or the tokenizer does not fit it.
        InvalidInputError: class names, templates, or losses that cannot be used, texts that are longer than the model
            reads, or nothing in the model that may move.
        UnknownNameError: no such group or class.
        MissingExtraError: peft is not installed.

    What the data holds is checked by `check`. Sources: MUNBa (arXiv:2411.15537), Section 4.2; the defaults of its
    code are ``train="text_attention"`` and ``"ce"``.
    """

    model: ZeroShotClassifier

    def __init__(
        self,
        model: nn.Module,
        processor: Any,
        class_names: Sequence[str],
        templates: Sequence[str] = TEMPLATES,
        *,
        forget: Source | Mapping[str, Source],
        retain: Source | None = None,
        holdout: Source | None = None,
        validation: Source | None = None,
        nonmembers: Source | None = None,
        pairs: Dataset[Any] | None = None,
        transfers: Mapping[str, Transfer] | None = None,
        captions: Dataset[Any] | None = None,
        forget_captions: Dataset[Any] | None = None,
        paraphrases: Sequence[str] = (),
        train: Group | re.Pattern[str] = "text_attention",
        lora: int | Mapping[str, Any] | None = None,
        retain_loss: RetainLoss | Sequence[RetainLoss] = "ce",
        forget_loss: ForgetLoss = "auto",
        anchor: str | None = None,
        bank: Sequence[str] = (),
        cache: bool = True,
        duplicates: Literal["refuse", "keep"] = "refuse",
    ) -> None:
        library = library_of(model)
        names, texts = checked_names(class_names), checked_templates(templates)
        self.retain_losses = checked_losses(retain_loss, pairs, bank)
        self.forget_loss, self.anchor = forget_loss, checked_anchor(forget_loss, anchor, names)
        tokenizer, images = parts_of(processor)
        reader = Reader(tokenizer, library, model)
        prompts = reader.prompts(names, texts)
        self._texts, self.bank = tuple(bank), reader(list(bank)) if bank else None
        towers = _moving(model, parameters_of(model, train), lora)
        classifier = ZeroShotClassifier(towers, prompts.to(device_of(model)), reader)
        self.templates = texts
        encode = self._encode if cache and not classifier.trains("image") else None
        if "feature" in self.retain_losses and not classifier.trains("image"):
            raise InvalidInputError(
                "`retain_loss='feature'` keeps image features, and the image tower does not move."
            )
        parts = {"retain": retain, "holdout": holdout, "validation": validation, "nonmembers": nonmembers}
        rest = {name: source for name, source in parts.items() if source is not None}
        sets: dict[str, Source] = dict(forget) if isinstance(forget, Mapping) else {"forget": forget}
        given = {name: source for name, source in (sets | rest).items() if source is not None}
        refuse_shared_indices(given)  # here, where the data sets are still to be seen
        made = {name: prepared(source, name, images, encode) for name, source in given.items()}
        super().__init__(
            classifier,
            forget={name: made[name] for name in sets} if isinstance(forget, Mapping) else made.get("forget"),  # type: ignore[arg-type]
            **{name: made[name] for name in rest},
            class_names=names,
            duplicates=duplicates,
        )
        told = {"pairs": pairs, "captions": captions, "forget_captions": forget_captions}
        self.captioned = {
            name: _captioned(name, source, images, reader, encode)
            for name, source in told.items()
            if source is not None
        }
        self.transfers = {
            name: dataclasses.replace(other, data=prepared(other.data, name, images, encode))
            for name, other in (transfers or {}).items()
        }
        self.paraphrases = tuple(paraphrases)
        asked = [(other.class_names, other.templates) for other in self.transfers.values()]
        for words, forms in [*asked, *([(names, self.paraphrases)] if paraphrases else [])]:
            reader.prompts(words, forms)  # which refuses what cannot be asked

    # What the players want.

    def preserved(self) -> Role:
        """Return the retaining player; see ``retain_loss``."""
        wanted = list(self.retain_losses)
        if wanted == ["contrastive"]:
            return Role("pairs", Contrastive())
        simple = {name: self._objective(name) for name in wanted}
        if wanted == ["ce"]:
            return Role("retain", cross_entropy)
        if all(objective is not None for objective in simple.values()):
            return Role("retain", Mean(blend(*((1.0, o) for o in simple.values() if o is not None))))
        beside = [Contrastive()] if "contrastive" in wanted else []
        losses = [self._loss(name, simple[name]) for name in wanted if name != "contrastive"]
        return Role("retain", Added(losses, beside), beside="pairs" if beside else None)

    def wished(self, wish: Wish, cap: float | None = None) -> Role:
        """Return a forgetting player; ``"auto"`` is what ``forget_loss`` says."""
        if wish != "auto" or self.forget_loss == "auto":
            return super().wished(wish, cap)
        objectives: dict[str, Objective] = {"uniform": uniform, "repel": repelled}
        if self.anchor is not None:
            objectives["anchor"] = labelled_as(self.class_names.index(self.anchor))
        return Role("forget", Mean(objectives[self.forget_loss]))

    @property
    def knows_unseen(self) -> bool:
        """Say whether the forgetting players may want to look unseen: not where another wish of theirs is given."""
        return self.forget_loss == "auto" and super().knows_unseen

    def _objective(self, name: str) -> Objective | None:
        if name == "ce":
            return truth
        if name == "ce_kept":
            return among(sorted(set(range(self.classes)) - set(self.forgotten_classes)))
        return answers_of(frozen(self.model)) if name == "distill" and self.bank is None else None

    def _loss(self, name: str, objective: Objective | None) -> Loss:
        if objective is not None:
            return Mean(objective)
        original = frozen(self.model)
        return SameFeatures(original) if self.bank is None or name == "feature" else Distilled(original, self.bank)

    # What is in the data, and other models.

    @property
    def sources(self) -> dict[str, Source]:
        """Every part that a player may see, ``"pairs"`` among them."""
        return super().sources | {name: source for name, source in self.captioned.items() if name == "pairs"}

    @property
    def settings(self) -> dict[str, Any]:
        """What decides beside the model, the data and the method where a run ends."""
        said = {"retain_loss": self.retain_losses, "forget_loss": self.forget_loss, "anchor": self.anchor}
        return said | {"prompts": self.model.prompts, "bank": self.bank}

    @property
    def retrainable(self) -> bool:
        """False: labelled images alone make no two towers, and features of the original's are none of a new one's."""
        return False

    def classifier(self, model: nn.Module) -> ZeroShotClassifier:
        """Return another model of the same kind, such as a retrained one, as a classifier of the task's classes."""
        library_of(model)
        return ZeroShotClassifier(model, self.model.prompts, self.model._reader).eval()

    def check(self) -> None:
        """Add the captions to what `Classification.check` reads; raise before any work if something is wrong."""
        if self._classes:
            return
        for name, source in self.captioned.items():
            for _ in Batches(source, name=name).iterate():  # reading finds captions that are too long
                pass
        super().check()
        self._check_words()
        for name, other in self.transfers.items():
            asked = self.model.asking(other.class_names, other.templates)
            inspected = inspect(name, other.data, unpack, hashed=False)
            inspected.check_labels(count_classes(asked, inspected))

    def seen_by(self, model: nn.Module, source: Source) -> Source:
        """Return a part as ``model`` takes it: features that the original's image tower made serve no other tower."""
        alike = not isinstance(model, ZeroShotClassifier) or sees_alike(self.model, model)
        found: Source = source if alike else pixels_of(source)
        return found

    def _check_words(self) -> None:
        """Refuse an anchor that is to be forgotten itself, and a bank that mentions what is to be forgotten."""
        gone = [self.class_names[c] for c in self.forgotten_classes] if "retain" in self.parts else []
        if self.anchor in gone:
            raise InvalidInputError(
                f"`anchor` must be a class that is kept, but all of {self.anchor!r} is to be forgotten."
            )
        for name in gone:
            found = [text for text in self._texts if re.search(rf"\b{re.escape(name)}\b", text, re.IGNORECASE)]
            if found:
                raise InvalidInputError(
                    f"`bank` mentions {name!r}, which is to be forgotten, in {len(found)} of {len(self._texts)} "
                    f"texts, such as {found[0][:80]!r}: what the original says of them would be kept. Take them out."
                )

    def _encode(self, pixels: Tensor) -> Tensor:
        with evaluating(self.model), torch.autocast(device_of(self.model).type, enabled=False):
            return self.model.image_features(pixels.to(device_of(self.model)))


def _moving(model: nn.Module, group: Sequence[str], lora: int | Mapping[str, Any] | None) -> nn.Module:
    """Return a copy of which a group of parameters may move, or adapters on them; it shares its tensors."""
    towers = shared_copy(model)
    if lora is None:
        for name in group:
            towers.get_parameter(name).requires_grad_(True)
        return towers.eval()
    with seeded(derive(0, "adapters"), device_of(model)):  # they start at random, and alike for every task
        return with_adapters(towers, group, lora).eval()


def _captioned(name: str, pairs: Any, processor: Any, reader: Reader, encode: Any) -> Dataset[Any]:
    if isinstance(pairs, DataLoader):
        raise InvalidInputError(f"`{name}` must be a data set of images and captions, found a `DataLoader`.")
    found = Captioned(pairs, processor, name, reader)
    return found if encode is None else ImageFeatures(found, encode)
