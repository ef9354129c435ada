"""Ranges of the settings that recipes and methods share, so that all faults are named at once."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from numbers import Real
from typing import Any

from amnesty.data import PAIRINGS
from amnesty.training.batchnorm import BATCH_NORM_POLICIES
from amnesty.training.schedules import SCHEDULES

_CHOICES = {"pairing": PAIRINGS, "schedule": SCHEDULES, "batch_norm": BATCH_NORM_POLICIES}
_COUNTS = {"epochs": 1, "batch_size": 1, "forget_batch_size": 1, "at_least": 0}
_POSITIVE = ("lr", "cap", "max_norm", "reach")
_NOT_NEGATIVE = ("momentum", "weight_decay")
_SHARES = ("retain_share",)


def faults(settings: Any) -> list[str]:
    """Return what is wrong with the settings of a dataclass, by the names of its fields.

    ``None`` is right where it is the default.
    """
    found = []
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        found.append(None if value is None and field.default is None else _fault(field.name, value))
    return [fault for fault in found if fault]


def _fault(name: str, value: Any) -> str | None:
    def unless(right: Callable[[], bool], wanted: str) -> str | None:
        number = isinstance(value, Real) and not isinstance(value, bool)
        return None if number and right() else f"`{name}` must be {wanted}, found {value!r}"

    if name in _COUNTS:
        least = _COUNTS[name]
        return unless(lambda: isinstance(value, int) and value >= least, f"a whole number of at least {least}")
    if name in _POSITIVE:
        return unless(lambda: 0 < value < math.inf, "a positive number")
    if name in _NOT_NEGATIVE:
        return unless(lambda: 0 <= value < math.inf, "a number of at least 0")
    if name in _SHARES:
        return unless(lambda: 0 < value < 1, "in (0, 1)")
    if name in _CHOICES and value not in _CHOICES[name]:
        return f"`{name}` must be one of {', '.join(_CHOICES[name])}, found {value!r}"
    return None
