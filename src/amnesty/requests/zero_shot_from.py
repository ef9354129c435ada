"""The section of a request that says what ``task: zero-shot`` needs beside model and data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from amnesty.errors import InvalidInputError
from amnesty.requests.fields import Section
from amnesty.requests.request import KeptAdapters, SourceSpec, TransferSpec, ZeroShotSpec
from amnesty.requests.sections import plain_value, read_source
from amnesty.requests.selectors_from import NAME_RULE, is_name
from amnesty.requests.values import nearest
from amnesty.requests.vocabulary import CAPTIONED, TRANSFER, ZERO_SHOT
from amnesty.tasks.zero_shot import ForgetLoss, Group, RetainLoss
from amnesty.tasks.zero_shot.words import checked_names, checked_templates
from amnesty.training.settings import Count

_LIVE_IMAGES = ("image_attention", "attention", "image", "projections", "all")
"""Groups of parameters with some of the image tower."""


def read_zero_shot(section: Section) -> ZeroShotSpec:
    """Return what the section says; its faults are noted."""
    section.close(ZERO_SHOT)
    default = ZeroShotSpec()
    found = ZeroShotSpec(
        class_names=_names(section),
        templates=_templates(section, "templates") or default.templates,
        paraphrases=_templates(section, "paraphrases") or (),
        train=section.take("train", Group, default.train),
        lora=read_lora(section),
        adapters=section.take("adapters", KeptAdapters, default.adapters),
        retain_loss=_retain_loss(section) or default.retain_loss,
        forget_loss=section.take("forget_loss", ForgetLoss, default.forget_loss),
        anchor=section.take("anchor", str | None),
        bank=_bank(section),
        transfers=_transfers(section.section("transfers")),
        **{key: _captioned(section, key) for key in ("captions", "forget_captions", "pairs")},
    )
    _check_together(section, found)
    return found


def _names(section: Section) -> tuple[str, ...] | None:
    names: tuple[str, ...] | None = section.take("class_names", tuple[str, ...] | None)
    if names is not None:
        _check(section, "class_names", checked_names, section.unique("class_names", names))
    return names


def _templates(section: Section, key: str) -> tuple[str, ...] | None:
    texts: tuple[str, ...] | None = section.take(key, tuple[str, ...] | None)
    for i, text in enumerate(texts or ()):
        place = section[key].value[i].place
        try:
            checked_templates([text])
        except InvalidInputError as error:
            section.faults.add(place, f"`{section.named(key)}[{i}]`: {error}")
    return texts


def _check(section: Section, key: str, check: Callable[[Sequence[str]], object], value: Sequence[str]) -> None:
    try:
        check(tuple(dict.fromkeys(value)))  # what is there twice was noted
    except InvalidInputError as error:
        section.add(key, f"cannot be used. {error}")


def read_lora(section: Section) -> int | Mapping[str, Any] | None:
    """Return the rank of low-rank adapters, or the arguments of their configuration."""
    node = section["lora"]
    if not isinstance(node.value, dict):
        rank: int | None = section.take("lora", Count | None)
        return rank
    options = section.section("lora")
    for key in options:
        if not key.isidentifier():
            options.add(key, "must be the name of an argument of `peft.LoraConfig`.")
    return {key: plain_value(options[key], options.named(key), options) for key in options}


def _retain_loss(section: Section) -> tuple[RetainLoss, ...]:
    if isinstance(section["retain_loss"].value, list):
        losses: tuple[RetainLoss, ...] = section.take("retain_loss", tuple[RetainLoss, ...], ())
        section.unique("retain_loss", losses)
        return losses
    loss: RetainLoss | None = section.take("retain_loss", RetainLoss | None)
    return () if loss is None else (loss,)


def _bank(section: Section) -> tuple[str, ...] | Path:
    if isinstance(section["bank"].value, str):
        return section.path("bank") or ()
    return section.take("bank", tuple[str, ...] | None) or ()


def _transfers(section: Section) -> dict[str, TransferSpec]:
    found = {}
    for name in section if section.usable else ():
        if not is_name(name):
            section.add(name, f"must have a name {NAME_RULE}.")
        other = section.section(name)
        source = read_source(other, TRANSFER)
        names, templates = _names(other), _templates(other, "templates")
        if source is not None:
            default = TransferSpec(data=source)
            found[name] = TransferSpec(data=source, class_names=names, templates=templates or default.templates)
    return found


def _captioned(section: Section, key: str) -> SourceSpec | None:
    return read_source(section.section(key), CAPTIONED) if key in section else None


def _check_together(section: Section, spec: ZeroShotSpec) -> None:
    """Note what does not go with each other."""
    losses = spec.retain_loss
    if "feature" in losses and spec.train not in _LIVE_IMAGES:
        section.add("retain_loss", f"has `feature`, but `train: {spec.train}` moves no image features.")
    if "contrastive" in losses and "pairs" not in section:
        section.add("retain_loss", "has `contrastive`, which needs `zero_shot.pairs`: images with captions.")
    if "pairs" in section and "contrastive" not in losses:
        section.add("pairs", "means nothing without `retain_loss: contrastive`: add it, or leave this out.")
    if "bank" in section and "distill" not in losses:
        section.add("bank", "means nothing without `retain_loss: distill`: add it, or leave this out.")
    if spec.adapters == "separate" and "lora" not in section:
        section.add("adapters", "cannot be separate without `lora`: there are none.")
    if spec.captions is not None and spec.captions in (spec.pairs, spec.forget_captions):
        section.add("captions", "must be data that was not trained on, but is the same as other captioned images.")
    _check_anchor(section, spec)


def _check_anchor(section: Section, spec: ZeroShotSpec) -> None:
    if spec.forget_loss == "anchor" and "anchor" not in section:
        section.add("forget_loss", "is `anchor`, which needs `zero_shot.anchor`: a class to be taken for.")
    if spec.anchor is not None and spec.forget_loss != "anchor":
        section.add("anchor", "means nothing without `forget_loss: anchor`: add it, or leave this out.")
    if spec.anchor is not None and spec.class_names is not None and spec.anchor not in spec.class_names:
        near = nearest(spec.anchor, spec.class_names)
        section.add("anchor", f"must be one of `zero_shot.class_names`, found {spec.anchor!r}.{near}")
