import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from amnesty.errors import DataError, InvalidInputError
from amnesty.evaluation import Answers, read_answers, write_answers
from amnesty.evaluation.storing import COLUMNS
from amnesty.tasks import Predictions


def answers(count, seed=0, reference=True):
    draw = torch.Generator().manual_seed(seed)
    logits, other = (torch.randn(count, 4, generator=draw) * 20 for _ in range(2))
    return Answers.of(Predictions(logits, torch.arange(count) % 4), other if reference else None)


def same(first, second):
    for key in COLUMNS:
        one, other = getattr(first, key), getattr(second, key)
        if one is None or other is None:
            assert one is other is None
        else:
            np.testing.assert_array_equal(one, other)


MODELS = {
    "original": {"forget": answers(5), "holdout": answers(9, 1)},
    "munba": {"forget": answers(5, 2), "holdout": answers(9, 3), "canary_nonmembers": answers(3, 4, reference=False)},
}


def test_what_is_read_is_what_was_written_to_the_bit(tmp_path):
    write_answers(tmp_path / "answers.parquet", MODELS)
    found = read_answers(tmp_path / "answers.parquet")
    assert {name: list(parts) for name, parts in found.items()} == {n: list(p) for n, p in MODELS.items()}
    for name, parts in MODELS.items():
        for part, expected in parts.items():
            same(found[name][part], expected)
    assert [path.name for path in tmp_path.iterdir()] == ["answers.parquet"]


def test_others_can_read_it(tmp_path):
    write_answers(tmp_path / "answers.parquet", MODELS)
    frame = parquet.read_table(tmp_path / "answers.parquet").to_pandas()
    assert list(frame.columns) == ["model", "part", "index", *COLUMNS]
    chosen = frame[(frame.model == "munba") & (frame.part == "forget")]
    assert (chosen.predicted == chosen.label).mean() == MODELS["munba"]["forget"].correct.mean()


@pytest.mark.parametrize("spoil", ["text", "columns", "order", "missing"])
def test_refuses_what_it_did_not_write(tmp_path, spoil):
    path = tmp_path / "answers.parquet"
    write_answers(path, MODELS)
    table = parquet.read_table(path)
    if spoil == "text":
        path.write_text("not Parquet")
    elif spoil == "columns":
        parquet.write_table(table.drop_columns(["margin"]), path)
    elif spoil == "order":
        parquet.write_table(table.take(pa.array(range(len(table) - 1, -1, -1))), path)
    else:
        path.unlink()
    with pytest.raises(DataError, match="answers.parquet"):
        read_answers(path)


def test_answers_of_unequal_length_are_refused():
    with pytest.raises(InvalidInputError, match="equally many"):
        Answers(*(np.zeros(n) for n in (2, 2, 2, 2, 3)))


def test_answers_are_chosen_by_mask_or_index():
    found = answers(6)
    mask = np.array([True, False, True, False, False, True])
    same(found[mask], found[np.flatnonzero(mask)])
    assert len(found[mask]) == 3 and found[mask].js_to_reference is not None
    assert answers(6, reference=False)[mask].js_to_reference is None
