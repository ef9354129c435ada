"""Checks of what `amnesty evaluate` is asked for, before any work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from amnesty.errors import InvalidInputError, MissingReferenceError, UnknownNameError
from amnesty.evaluation import ALSO, Also, criterion
from amnesty.evaluation.measures import measure_named
from amnesty.studies.runs import Run

_MEANT_FOR = {
    "reference": "weights files, or the self-test on a task of your own",
    "second_reference": "weights files, or the self-test on a task of your own",
    "canaries": "runs, weights files, or the self-test on a task of your own",
    "also": "runs and weights files",
    "out": "weights files",
    "seed": "weights files and the self-test",
    "rank_by": "runs",
    "distance": "runs",
    "per_seed": "runs",
}


def refuse_options(what: str, **given: object) -> None:
    """Raise `InvalidInputError` if an option was given (is not ``None``) that means nothing for ``what``."""
    for name, value in given.items():
        if value is not None:
            raise InvalidInputError(f"--{name.replace('_', '-')} is for {_MEANT_FOR[name]}, not for {what}.")


def checked_also(names: Iterable[str]) -> frozenset[Also]:
    """Return the names, or raise `UnknownNameError` for one that is not in `amnesty.evaluation.ALSO`."""
    for name in names:
        if name not in ALSO:
            raise UnknownNameError("further measure", name, ALSO)
    return frozenset(known for known in ALSO if known in names)


def check_ranking(by: str, distance: bool, runs: Mapping[str, Sequence[Run]]) -> None:
    """Raise unless methods may be ranked by a measure, or by its distance to the retrained model.

    Raises:
        UnknownNameError, InvalidInputError: there is no such measure; it must not be ranked by.
        MissingReferenceError: ``distance``, and a run without a retrained model.
    """
    measure_named(by)
    if not distance:
        criterion(by)
        return
    for run in (run for seeds in runs.values() for run in seeds):
        if run.document.get("reference") is None:
            raise MissingReferenceError(f"--distance needs a retrained model, and {run.folder} has none.")
