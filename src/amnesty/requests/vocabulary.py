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

CONCEPT_SECTIONS = (
    *("name", "task", "model", "data", "forget", "diffusion", "evaluation", "method", "seed", "device", "precision"),
    *("workers", "duplicates", "checkpoint", "trackers", "sign", "out"),
)
"""The same of ``task: diffusion``."""

EVERY_SECTION = tuple(dict.fromkeys((*SECTIONS, *CONCEPT_SECTIONS)))


def sections_of(task: TaskKind) -> tuple[str, ...]:
    """Return the sections that a request for a task may have, in the order in which they are written."""
    return CONCEPT_SECTIONS if task == "diffusion" else SECTIONS


_MADE = ("weights", "classes", "options")
MODEL: Kinds = {kind: () if kind in ("huggingface", "run") else _MADE for kind in MODEL_KINDS if kind != "diffusers"}
_TOWERS = ("huggingface", "open_clip", "import", "run")  # in which there may be two
_GENERATORS: Kinds = {"diffusers": (), "import": ("options",), "run": ()}


def model_kinds(task: TaskKind) -> Kinds:
    """Return the models that can do a task, and what may stand beside them."""
    if task == "diffusion":
        return _GENERATORS
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

PROMPTS: Kinds = {"prompts": (), "prompts_file": ()}
KEPT: Kinds = {
    **PROMPTS,
    **{
        kind: (*beside, *(("caption_column",) if "label_column" in beside else ()), "templates", "class_names")
        for kind, beside in SOURCE.items()
    },
}
IMAGES: Kinds = {kind: tuple(key for key in beside if key != "label_column") for kind, beside in SOURCE.items()}
CONCEPT: Kinds = dict.fromkeys(PROMPTS, ("anchor", "images"))
CONCEPTS: Kinds = {**CONCEPT, "sets": ()}
_JUDGED = ("classes", "class_names", "among", "inputs")
JUDGE: Kinds = {
    **dict.fromkeys(("timm", "torchvision", "import"), ("weights", "options", *_JUDGED)),
    "huggingface": _JUDGED,
}
DIFFUSION = (
    *("train", "lora", "adapters", "forget_loss", "retain_loss", "eta", "teacher", "drawing", "prompt_drop"),
    *("image_size", "gradient_checkpointing", "cache"),
)
DRAWING = ("per_prompt", "steps", "guidance", "batch_size")
EVALUATION = (
    *("per_prompt", "kept_per_prompt", "kept_prompts", "steps", "guidance", "batch_size"),
    *("judge", "real", "features", "clip", "nudity"),
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
    """Return the kinds of the section at a path of keys, for whatever task; ``None`` where it is no choice."""
    fixed: Mapping[tuple[str, ...], Kinds] = {
        ("model",): {**_GENERATORS, **MODEL},
        ("data", "training"): SOURCE,
        ("data", "holdout"): HOLDOUT,
        ("data", "validation"): SOURCE,
        ("data", "holdout", "rows"): SELECTOR,
        ("data", "retain"): KEPT,
        ("forget",): {**FORGET, **CONCEPTS},
        ("forget", "images"): IMAGES,
        ("zero_shot", "captions"): CAPTIONED,
        ("zero_shot", "forget_captions"): CAPTIONED,
        ("zero_shot", "pairs"): CAPTIONED,
        ("evaluation", "judge"): JUDGE,
        ("evaluation", "real"): IMAGES,
        ("sign",): SIGN,
    }
    named: Mapping[tuple[str, ...], Kinds] = {
        ("forget", "sets"): {**SELECTOR, **CONCEPT},
        ("zero_shot", "transfers"): TRANSFER,
    }
    return named.get(path[:-1]) or fixed.get(path)
