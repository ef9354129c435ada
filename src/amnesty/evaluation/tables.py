"""Checks of tables with a row per model and a column per example, for the measures that read many models."""

from __future__ import annotations

import numpy as np

from amnesty.errors import InvalidInputError, ShapeError


def as_scores(values: np.ndarray, name: str) -> np.ndarray:
    """Return ``values`` as float64, shape [models, examples]; raise `ShapeError` if it is no such table."""
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.size == 0:
        raise ShapeError(
            f"`{name}` must have shape [models, examples], at least one of each, but has {list(table.shape)}."
        )
    return table


def as_groups(groups: np.ndarray, rows: int, name: str) -> np.ndarray:
    """Return ``groups`` as an integer array, shape [rows]; raise `ShapeError` if it is none."""
    numbers = np.asarray(groups)
    if numbers.shape != (rows,) or not np.issubdtype(numbers.dtype, np.integer):
        raise ShapeError(
            f"`{name}` must be {rows} whole numbers, the group of each model, but has shape {list(numbers.shape)} "
            f"and type {numbers.dtype}."
        )
    return numbers


def as_margins(values: np.ndarray, name: str) -> np.ndarray:
    """Return ``values`` as finite float64 margins, shape [models, examples]; refuse 0/1 correctness."""
    table = all_finite(as_scores(values, name), name)
    if table.size > 2 and ((table == table.min()) | (table == table.max())).all():
        raise InvalidInputError(
            f"`{name}` holds no more than two different numbers. Margins (log-odds) are needed: of right and wrong "
            "answers most examples have no variance, and their ratio means nothing."
        )
    return table


def all_finite(table: np.ndarray, name: str) -> np.ndarray:
    """Return ``table``; raise `InvalidInputError` if a number is NaN or infinite."""
    if not np.isfinite(table).all():
        raise InvalidInputError(f"`{name}` must be finite, found {(~np.isfinite(table)).sum()} numbers that are not.")
    return table


def as_mask(mask: np.ndarray, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Return ``mask`` as an array; raise `ShapeError` unless it is bool and of ``shape``."""
    found = np.asarray(mask)
    if found.shape != shape or found.dtype != np.bool_:
        raise ShapeError(
            f"`{name}` must be bool of shape {list(shape)}, but is {found.dtype} of shape {list(found.shape)}."
        )
    return found


def same_examples(first: np.ndarray, second: np.ndarray) -> None:
    """Raise `ShapeError` unless both tables have as many columns."""
    if first.shape[1] != second.shape[1]:
        raise ShapeError(
            f"Both tables must have a column per example, but have {first.shape[1]} and {second.shape[1]} columns."
        )
