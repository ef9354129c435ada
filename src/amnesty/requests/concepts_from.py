"""The sections of a request that say what an image generator forgets and keeps, how, and who judges what it draws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amnesty.errors import InvalidInputError
from amnesty.requests.concepts_request import (
    ConceptSpec,
    DiffusionSpec,
    JudgeSpec,
    JudgingSpec,
    KeptSpec,
    Teacher,
)
from amnesty.requests.fields import Section
from amnesty.requests.request import KeptAdapters, ModelKind, ModelSpec
from amnesty.requests.sections import read_function, read_inputs, read_name, read_options, read_source
from amnesty.requests.selectors_from import ONE, check_set_name
from amnesty.requests.vocabulary import (
    CONCEPT,
    CONCEPTS,
    DIFFUSION,
    DRAWING,
    EVALUATION,
    IMAGES,
    JUDGE,
    KEPT,
    PROMPTS,
)
from amnesty.requests.zero_shot_from import read_lora
from amnesty.tasks.diffusion import Drawing, ForgetLoss, Prompt, RetainLoss
from amnesty.tasks.diffusion.concepts import check_prompt
from amnesty.tasks.zero_shot.words import checked_templates
from amnesty.training.settings import Count, CountOrZero, NotNegative

INCEPTION = "inception"
"""Stands for the network of published distances."""

_ASKED = str | CountOrZero
_EXAMPLE = "forget: {prompts: a photo of a cat, anchor: a photo of a dog}"
_KEPT = "retain: {prompts: [a photo of a dog, a photo of a bird]}"


# What is forgotten.


def read_concepts(section: Section) -> dict[str, ConceptSpec]:
    """Return the concepts by name; their faults are noted."""
    if section.choose(CONCEPTS, _EXAMPLE) is None:
        return {}
    if "sets" not in section:
        return {ONE: _concept(section)}
    sets = section.section("sets")
    if sets.usable and not list(sets):
        sets.faults.add(sets.node.place, f"`{sets.name}` must name at least one concept, such as `cat: {{...}}`.")
    for name in sets:
        check_set_name(sets, name, only=len(list(sets)) == 1)
    chosen = {name: _chosen(sets.section(name)) for name in sets}
    found = {name: concept for name, concept in chosen.items() if concept is not None}
    _check_clashes(sets, found)
    return found


def _chosen(section: Section) -> ConceptSpec | None:
    return None if section.choose(CONCEPT, _EXAMPLE.partition(" ")[2]) is None else _concept(section)


def _concept(section: Section) -> ConceptSpec:
    prompts = _prompts(section) if "prompts" in section else ()
    anchor: Prompt | None = section.take("anchor", _ASKED | None)
    _check_prompt(section, "anchor", anchor)
    if anchor is not None and anchor in prompts:
        section.add("anchor", f"is to be forgotten itself: {anchor!r} is among its `prompts`.")
    images = read_source(section.section("images"), IMAGES) if "images" in section else None
    file = section.path("prompts_file") if "prompts_file" in section else None
    return ConceptSpec(prompts=prompts, file=file, anchor=anchor, images=images)


def _check_clashes(sets: Section, concepts: Mapping[str, ConceptSpec]) -> None:
    """Note prompts of two concepts, and anchors that another concept forgets."""
    owner: dict[Prompt, str] = {}
    for name, concept in concepts.items():
        for prompt in concept.prompts:
            if owner.setdefault(prompt, name) != name:
                sets.section(name).add("prompts", f"has {prompt!r}, which belongs to {owner[prompt]!r} already.")
    for name, concept in concepts.items():
        if concept.anchor is not None and owner.get(concept.anchor, name) != name:
            text = f"is to be forgotten itself: {concept.anchor!r} belongs to {owner[concept.anchor]!r}."
            sets.section(name).add("anchor", text)


def _prompts(section: Section) -> tuple[Prompt, ...]:
    """Return one prompt or several, after noting those that ask for nothing."""
    if isinstance(section["prompts"].value, list):
        found: tuple[Prompt, ...] = section.unique("prompts", section.take("prompts", tuple[_ASKED, ...], ()))
        for i, prompt in enumerate(found):
            _check_prompt(section, "prompts", prompt, i)
        return found
    one: Prompt | None = section.take("prompts", _ASKED)
    _check_prompt(section, "prompts", one)
    return () if one is None else (one,)


def _check_prompt(section: Section, key: str, prompt: Prompt | None, at: int | None = None) -> None:
    node = section[key] if at is None else section[key].value[at]
    try:
        if prompt is not None:
            check_prompt(prompt)
    except InvalidInputError as error:
        name = section.named(key) if at is None else f"{section.named(key)}[{at}]"
        section.faults.add(node.place, f"`{name}`: {error}")


# What is kept.


def read_kept(section: Section) -> KeptSpec | None:
    """Return what ``data`` says of what is kept; ``None`` after its faults were noted."""
    section.close(("retain",))
    if not section.require("retain", _KEPT):
        return None
    kept = section.section("retain")
    kind = kept.choose(KEPT, _KEPT)
    if kind is None:
        return None
    if kind in PROMPTS:
        prompts = _prompts(kept) if kind == "prompts" else ()
        return KeptSpec(prompts=prompts, file=kept.path("prompts_file"))
    source = read_source(kept, KEPT)
    templates: tuple[str, ...] = kept.take("templates", tuple[str, ...] | None) or ()
    for i, text in enumerate(templates):
        try:
            checked_templates([text])
        except InvalidInputError as error:
            kept.faults.add(kept["templates"].value[i].place, f"`{kept.named('templates')}[{i}]`: {error}")
    names: tuple[str, ...] | None = kept.take("class_names", tuple[str, ...] | None)
    if names is not None and not templates:
        kept.add("class_names", "means nothing without `templates`, which class names are put into: add them.")
    labelled = bool(templates) or kind == "images" or "label_column" in kept
    if labelled and "caption_column" in kept:
        kept.add("caption_column", "means nothing beside labels (`label_column`, `templates`): leave one out.")
    if source is None:
        return None
    return KeptSpec(
        images=source,
        labelled=labelled,
        templates=templates,
        class_names=None if names is None else kept.unique("class_names", names),
    )


# How.


def read_diffusion(section: Section, forget: Mapping[str, ConceptSpec]) -> DiffusionSpec:
    """Return how a generator is unlearned; its faults are noted."""
    section.close(DIFFUSION)
    default = DiffusionSpec()
    found = DiffusionSpec(
        train=section.take("train", str | None),
        lora=read_lora(section),
        adapters=section.take("adapters", KeptAdapters, default.adapters),
        forget_loss=section.take("forget_loss", ForgetLoss, default.forget_loss),
        retain_loss=section.take("retain_loss", RetainLoss, default.retain_loss),
        eta=section.take("eta", NotNegative, default.eta),
        teacher=section.take("teacher", Teacher, default.teacher),
        drawing=_drawing(section.section("drawing")),
        prompt_drop=_drop(section, default.prompt_drop),
        image_size=_size(section),
        gradient_checkpointing=section.take("gradient_checkpointing", bool, default.gradient_checkpointing),
        cache=section.path("cache"),
    )
    if found.adapters == "separate" and "lora" not in section:
        section.add("adapters", "cannot be separate without `lora`: there are none.")
    lacking = [name for name, concept in forget.items() if concept.anchor is None]
    if found.forget_loss == "anchor" and lacking:
        section.add("forget_loss", f"is `anchor`, which needs an anchor for every concept; {lacking[0]!r} has none.")
    return found


def _drawing(section: Section) -> Drawing:
    section.close(DRAWING)
    default = Drawing()
    return Drawing(
        per_prompt=section.take("per_prompt", Count, default.per_prompt),
        steps=section.take("steps", Count, default.steps),
        guidance=section.take("guidance", NotNegative | None, default.guidance),
        batch_size=section.take("batch_size", Count, default.batch_size),
    )


def _drop(section: Section, default: float) -> float:
    share: float = section.take("prompt_drop", NotNegative, default)
    if share >= 1:
        section.add("prompt_drop", f"must be in [0, 1), found {section['prompt_drop'].found}.")
    return share


def _size(section: Section) -> tuple[int, int] | None:
    size = section.take("image_size", Count | tuple[Count, ...] | None)
    if isinstance(size, tuple) and len(size) != 2:
        section.add("image_size", f"must be one number, or height and width, found {len(size)} numbers.")
        return None
    return (size, size) if isinstance(size, int) else size


# Who judges.


def read_evaluation(section: Section) -> JudgingSpec:
    """Return how what is drawn is judged; its faults are noted."""
    section.close(EVALUATION)
    default = JudgingSpec()
    found = JudgingSpec(
        per_prompt=section.take("per_prompt", Count, default.per_prompt),
        kept_per_prompt=section.take("kept_per_prompt", Count | None),
        kept_prompts=section.take("kept_prompts", Count, default.kept_prompts),
        steps=section.take("steps", Count, default.steps),
        guidance=section.take("guidance", NotNegative | None),
        batch_size=section.take("batch_size", Count, default.batch_size),
        judge=_judge(section.section("judge")) if "judge" in section else None,
        real=read_source(section.section("real"), IMAGES) if "real" in section else None,
        features=_features(section),
        clip=section.path("clip"),
        nudity=section.take("nudity", bool, default.nudity),
    )
    if "features" in section and "real" not in section:
        section.add("features", "means nothing without `evaluation.real`, images to compare with: add them.")
    if "real" in section and "features" not in section:
        text = "needs `evaluation.features` beside it: a function that returns a network of features, or `inception`,"
        section.add("real", f"{text} whose weights are fetched.")
    return found


def _features(section: Section) -> str | None:
    text = section.take("features", str | None)
    return None if text is None or text == INCEPTION else read_function(section, "features", text)


def _judge(section: Section) -> JudgeSpec | None:
    kind: Any = section.choose(JUDGE, "judge: {import: 'judge.py:classifier', classes: {a photo of a cat: 3}}")
    if kind is None:
        return None
    name = read_name(section, kind, hub=False)
    weights = section.path("weights") if "weights" in section else None
    if kind in ("timm", "torchvision"):
        section.require("weights", "weights: judge.safetensors")
    options = read_options(section) if "options" in section else {}
    classes = section.section("classes")
    names: tuple[str, ...] | None = section.take("class_names", tuple[str, ...] | None)
    among: tuple[int | str, ...] | None = section.take("among", tuple[_ASKED, ...] | None)
    made: ModelKind = kind
    if name is None:
        return None
    return JudgeSpec(
        model=ModelSpec(kind=made, name=name, weights=weights, options=options),
        classes={prompt: classes.take(prompt, _ASKED | None) for prompt in classes},
        class_names=None if names is None else section.unique("class_names", names),
        among=None if among is None else section.unique("among", among),
        inputs=read_inputs(section.section("inputs")),
    )
