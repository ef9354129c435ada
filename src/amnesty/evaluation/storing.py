"""Answers example by example, in one Parquet file beside the scores, so that any statistic can be computed again."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from amnesty.errors import DataError, MissingExtraError
from amnesty.evaluation.answers import Answers
from amnesty.files import whole

COLUMNS = ("label", "predicted", "margin", "entropy", "modified_entropy", "js_to_reference")
ByModel = Mapping[str, Mapping[str, Answers]]
"""Name of a model -> part of the data -> its answers."""


def check_parquet() -> None:
    """Raise `MissingExtraError` unless Parquet files can be read and written here."""
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingExtraError("pyarrow", "report", "A file of per-example values")


def write_answers(path: Path, answers: ByModel) -> None:
    """Write a row for each model, part and example: ``model``, ``part``, ``index`` (in the part), and `COLUMNS`.

    ``js_to_reference`` is null where there was no retrained model. The file appears whole or not at all.

    Raises:
        MissingExtraError: pyarrow is not installed.
        OSError: the folder does not exist or cannot be written to.
    """
    check_parquet()
    import pyarrow as pa
    from pyarrow import parquet

    tables = [_table(pa, model, part, found) for model, parts in answers.items() for part, found in parts.items()]
    with whole(path) as temporary:
        parquet.write_table(pa.concat_tables(tables), temporary, compression="zstd")


def _table(pa: Any, model: str, part: str, found: Answers) -> Any:
    count = len(found)

    def name(text: str) -> Any:
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, dtype=np.int32)), pa.array([text]))

    js = found.js_to_reference
    columns = {
        "model": name(model),
        "part": name(part),
        "index": pa.array(np.arange(count, dtype=np.int64)),
        "label": pa.array(found.label.astype(np.int64)),
        "predicted": pa.array(found.predicted.astype(np.int64)),
        **{key: pa.array(getattr(found, key)) for key in ("margin", "entropy", "modified_entropy")},
        "js_to_reference": pa.nulls(count, pa.float64()) if js is None else pa.array(js),
    }
    return pa.table(columns)


def read_answers(path: Path) -> dict[str, dict[str, Answers]]:
    """Read what `write_answers` wrote, in its order and to the bit.

    Raises:
        MissingExtraError: pyarrow is not installed.
        DataError: the file cannot be read, lacks columns, or a part's examples are not numbered 0, 1, 2, ...
    """
    check_parquet()
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error
    lacking = [key for key in ("model", "part", "index", *COLUMNS) if key not in table.column_names]
    if lacking:
        raise DataError(f"{path} lacks the columns {', '.join(lacking)}; it was not written by Amnesty.")
    frame = {key: table.column(key).to_numpy() for key in ("model", "part", "index", *COLUMNS)}
    found: dict[str, dict[str, Answers]] = {}
    # Groups in the order of their first row, without sorting the strings of a million rows.
    edges = np.flatnonzero((frame["model"][1:] != frame["model"][:-1]) | (frame["part"][1:] != frame["part"][:-1]))
    for start, stop in zip([0, *(edges + 1)], [*(edges + 1), len(table)], strict=True):
        if start == stop:
            continue
        model, part = str(frame["model"][start]), str(frame["part"][start])
        if part in found.get(model, {}) or not np.array_equal(frame["index"][start:stop], np.arange(stop - start)):
            raise DataError(f"{path}: the rows of {model}, {part} are not numbered from 0 in one piece.")
        found.setdefault(model, {})[part] = _answers({key: frame[key][start:stop] for key in COLUMNS})
    return found


def _answers(columns: Mapping[str, np.ndarray]) -> Answers:
    js = columns["js_to_reference"]
    known = None if np.isnan(js.astype(np.float64)).all() else js.astype(np.float64)
    return Answers(**{key: columns[key] for key in COLUMNS if key != "js_to_reference"}, js_to_reference=known)
