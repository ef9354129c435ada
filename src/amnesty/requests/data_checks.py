"""Does a run's model, asked again on the data that its request names, have the scores that are recorded?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from amnesty.errors import AmnestyError, one_line
from amnesty.requests.content_checks import Audit, differing, recorded_scores, tolerance_of
from amnesty.requests.digests import SCORES
from amnesty.requests.forgotten import find_hashes, read_forgotten
from amnesty.requests.verification import Notes
from amnesty.tasks import Source

Reevaluate = Callable[[Path], Mapping[str, float]]
"""Asks the model of a run again, on the data that its request names; raises `AmnestyError` where it cannot."""

Datasets = Callable[[Path], Mapping[str, Source]]
"""Returns the data that a run's request names, by name, as it is now; raises `AmnestyError` where it cannot."""

_SCORES, _EXAMPLES = "the scores against model and data", "forgotten examples in the data at hand"


def check_data(
    notes: Notes,
    folder: Path,
    audit: Audit,
    required: bool,
    reevaluate: Reevaluate | None,
    datasets: Datasets | None,
) -> None:
    """Take the scores again, and look for forgotten examples; note what came of it.

    Args:
        notes: so far. Where there is a problem among them nothing is loaded.
        folder: of the run.
        audit: its record.
        required: whether it is a problem if the data cannot be had.
        reevaluate: see `Reevaluate`.
        datasets: see `Datasets`.
    """
    if notes.problems:
        notes.unchecked.append(f"{_SCORES}: nothing is loaded where something was changed")
        return
    _look(notes, _SCORES, required, reevaluate and (lambda: _reevaluated(audit, reevaluate(folder))))
    _look(notes, _EXAMPLES, required, datasets and (lambda: _remaining(folder, datasets(folder))))


def _look(notes: Notes, what: str, required: bool, look: Callable[[], tuple[str, list[str]]] | None) -> None:
    reason = "the data was not given"
    if look is not None:
        try:
            said, problems = look()
        except (AmnestyError, OSError) as error:
            reason = one_line(error, named=False, longest=2000)
        else:
            notes.found(f"{what}: {said}", problems)
            return
    (notes.problems if required else notes.unchecked).append(f"{what}: {reason}")


def _reevaluated(audit: Audit, found: Mapping[str, float]) -> tuple[str, list[str]]:
    recorded = recorded_scores(audit)
    count = len(recorded.keys() & found.keys())
    tolerance, why = tolerance_of(audit)
    lines = [f"{SCORES}: {line}, from model and data" for line in differing(recorded, found, tolerance)]
    if not count:
        lines = [f"{SCORES}: holds none of the scores that were taken again"]
    return f"{count} numbers, to within {tolerance:g} ({why})", lines


def _remaining(folder: Path, datasets: Mapping[str, Source]) -> tuple[str, list[str]]:
    hashes = set(read_forgotten(folder).hashes)
    found = find_hashes(datasets, hashes)
    where = ", ".join(f"{len(positions)} in {name}" for name, positions in found.items())
    return f"{len(hashes)} were forgotten; found {where or 'in no data'}", []
