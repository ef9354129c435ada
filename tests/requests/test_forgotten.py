import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from amnesty.data import Examples, example_hash
from amnesty.errors import DataError, InvalidInputError
from amnesty.requests.forgotten import (
    Forgotten,
    find_hashes,
    hashes_of,
    read_forgotten,
    read_forgotten_before,
    write_forgotten,
)
from tests.requests.audited import examples, forgotten_by


def hashed(data, indices):
    return {example_hash(*data[i]) for i in indices}


def test_what_is_written_is_read(tmp_path):
    data = examples(20, seed=1)
    found = forgotten_by("user-7", {"a": Subset(data, [1, 2]), "b": Subset(data, [7])})
    write_forgotten(tmp_path, found)
    assert read_forgotten(tmp_path) == found
    assert set(found.sets["a"]) == hashed(data, [1, 2]) and set(found.hashes) == hashed(data, [1, 2, 7])
    assert read_forgotten_before(tmp_path) == ()


def test_the_order_of_the_examples_is_not_told(tmp_path):
    data = examples(20, seed=1)
    first, second = (forgotten_by("x", {"a": Subset(data, order)}) for order in ([3, 1, 2], [1, 2, 3]))
    assert first == second


def test_a_repeated_example_counts_each_time():
    data = examples(5, seed=1)
    assert len(forgotten_by("x", {"a": Subset(data, [1, 1])}).hashes) == 2


def test_earlier_runs_keep_their_order_and_may_share_a_name(tmp_path):
    before = [Forgotten("b", {"x": (b"1" * 32,)}), Forgotten("a", {"x": ()}), Forgotten("b", {"y": (b"2" * 32,)})]
    write_forgotten(tmp_path, Forgotten("c", {"x": ()}), before)
    assert read_forgotten_before(tmp_path) == tuple(before)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", '{"name": "x", "sets": {"a": ["zz"]}}', '{"name": "x", "sets": 3}', "[" * 10**5]
)
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "forgotten.json").write_text(text)
    (tmp_path / "forgotten_before.json").write_text(text)
    for read in (read_forgotten, read_forgotten_before):
        with pytest.raises(InvalidInputError, match="is not what Amnesty wrote"):
            read(tmp_path)


def test_a_missing_list_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="is missing"):
        read_forgotten(tmp_path)


def test_examples_are_found_by_input_and_label():
    data = examples(20, seed=1)
    other_label = Examples(data.images, (data.labels + 1) % 3)
    found = find_hashes({"same": data, "other": other_label, "part": Subset(data, [9, 4])}, hashed(data, [4, 11]))
    assert {name: where.tolist() for name, where in found.items()} == {"same": [4, 11], "other": [], "part": [1]}


def test_a_loader_is_read_in_the_order_of_its_data():
    data = examples(20, seed=1)
    assert hashes_of(DataLoader(data, shuffle=True)) == hashes_of(data)


def test_data_that_is_none_is_one_line():
    with pytest.raises(DataError, match="A batch must be"):
        hashes_of([torch.zeros(3)])


def test_positions_are_an_array():
    data = examples(4, seed=1)
    assert isinstance(find_hashes({"x": data}, ())["x"], np.ndarray)
