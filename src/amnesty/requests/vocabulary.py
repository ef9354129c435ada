"""The keys of a request: which sections there are, and what may stand beside what."""

from __future__ import annotations

from collections.abc import Mapping

from amnesty.requests.request import MODEL_KINDS, SOURCE_KINDS, TaskKind

Kinds = Mapping[str, tuple[str, ...]]
"""Ways to say what a section says, exactly one of which is given -> the keys that may stand beside it."""

SECTIONS = (
    *("name", "task", "model", "data", "zero_shot", "forget", "method", "reference", "seed", "device", "precision"),
    *("workers", "duplicates", "checkpoint", "trackers", "sign", "out"),
)

_MADE = ("weights", "classes", "options")
MODEL: Kinds = {kind: () if kind in ("huggingface", "run") else _MADE for kind in MODEL_KINDS}
_TOWERS = ("huggingface", "open_clip", "import", "run")  # in which there may be two


def model_kinds(task: TaskKind) -> Kinds:
    """Return the models that can do a task, and what may stand beside them."""
    if task == "classification":
        return {kind: beside for kind, beside in MODEL.items() if kind != "open_clip"}
    return {kind: tuple(key for key in MODEL[kind] if key != "classes") for kind in _TOWERS}


_TABLE = ("split", "image_column", "label_column", "limit")
_BESIDE = {"huggingface": _TABLE, "parquet": _TABLE, "images": ("limit",), "import": ("options", "limit")}
SOURCE: Kinds = {kind: _BESIDE[kind] for kind in SOURCE_KINDS}
HOLDOUT: Kinds = {**SOURCE, "rows": ()}
TRANSFER: Kinds = {kind: (*beside, "class_names", "templates") for kind, beside in SOURCE.items()}
CAPTIONED: Kinds = {
    kind: tuple("caption_column" if key == "label_column" else key for key in beside)
    for kind, beside in SOURCE.items()
    if kind != "images"
}

ZERO_SHOT = (
    *("class_names", "templates", "paraphrases", "train", "lora", "adapters", "retain_loss", "forget_loss"),
    *("anchor", "bank", "transfers", "captions", "forget_captions", "pairs"),
)

SELECTOR: Kinds = {
    "classes": ("column",),
    "indices": (),
    "index_file": (),
    "values": ("column",),
    "values_file": ("column",),
    "fraction": ("seed",),
}
FORGET: Kinds = {**SELECTOR, "sets": ()}

SIGN: Kinds = {"key": (), "sigstore": ()}

SHORT = {("method",): "name", ("duplicates",): "action"}
"""Sections that may be given as one word, and the key for which it stands."""


def kinds_at(path: tuple[str, ...]) -> Kinds | None:
    """Return the kinds of the section at a path of keys; ``None`` where it is no choice."""
    fixed: Mapping[tuple[str, ...], Kinds] = {
        ("model",): MODEL,
        ("data", "training"): SOURCE,
        ("data", "holdout"): HOLDOUT,
        ("data", "validation"): SOURCE,
        ("data", "holdout", "rows"): SELECTOR,
        ("forget",): FORGET,
        ("zero_shot", "captions"): CAPTIONED,
        ("zero_shot", "forget_captions"): CAPTIONED,
        ("zero_shot", "pairs"): CAPTIONED,
        ("sign",): SIGN,
    }
    named: Mapping[tuple[str, ...], Kinds] = {("forget", "sets"): SELECTOR, ("zero_shot", "transfers"): TRANSFER}
    return named.get(path[:-1]) or fixed.get(path)
