"""The keys of a request: which sections there are, and what may stand beside what."""

from __future__ import annotations

from collections.abc import Mapping

from amnesty.requests.request import MODEL_KINDS, SOURCE_KINDS

Kinds = Mapping[str, tuple[str, ...]]
"""Ways to say what a section says, exactly one of which is given -> the keys that may stand beside it."""

SECTIONS = (
    *("name", "model", "data", "forget", "method", "reference", "seed", "device", "precision", "workers"),
    *("duplicates", "checkpoint", "trackers", "sign", "out"),
)

_MADE = ("weights", "classes", "options")
MODEL: Kinds = {kind: _MADE if kind in ("timm", "torchvision", "import") else () for kind in MODEL_KINDS}

_TABLE = ("split", "image_column", "label_column", "limit")
_BESIDE = {"huggingface": _TABLE, "parquet": _TABLE, "images": ("limit",), "import": ("options", "limit")}
SOURCE: Kinds = {kind: _BESIDE[kind] for kind in SOURCE_KINDS}
HOLDOUT: Kinds = {**SOURCE, "rows": ()}

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
    fixed = {
        ("model",): MODEL,
        ("data", "training"): SOURCE,
        ("data", "holdout"): HOLDOUT,
        ("data", "validation"): SOURCE,
        ("data", "holdout", "rows"): SELECTOR,
        ("forget",): FORGET,
        ("sign",): SIGN,
    }
    return SELECTOR if path[:-1] == ("forget", "sets") else fixed.get(path)
