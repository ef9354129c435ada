import hashlib
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import TensorDataset

from amnesty.data import Classes, Column, Examples, Fraction, IndexFile, Indices, Split, content_hash, split
from amnesty.errors import DataError, InvalidInputError, SplitError, UnknownNameError

from .test_examples import NAMES, Vision, huggingface

N = 30


def data(n=N):
    columns = {"user_id": np.arange(n) % 7, "name": [f"user {i % 7}" for i in range(n)]}
    return Examples(torch.zeros(n, 1), torch.arange(n) % 3, NAMES, columns)


def chosen(selector, dataset=None, holdout=None):
    return split(dataset or data(), selector, holdout).forget.tolist()


def write(path, text):
    path.write_text(text)
    return path


class TestEverySplit:
    @pytest.mark.parametrize("holdout", [None, Fraction(0.3, seed=4), Indices([0, 1, 2]), Column("user_id", [3])])
    @pytest.mark.parametrize(
        "forget",
        [Indices([25, 7, 8]), Classes(["dog"]), Classes([0, 2]), Fraction(0.1, seed=3), Column("user_id", [5])],
    )
    def test_is_disjoint_complete_sorted_and_repeatable(self, forget, holdout):
        found = split(data(), forget, holdout)
        parts = [found.forget, found.retain, found.holdout]
        assert sorted(np.concatenate(parts).tolist()) == list(range(N))
        assert all((np.diff(part) > 0).all() for part in parts)
        assert split(data(), forget, holdout).fingerprint == found.fingerprint
        assert [len(p) for p in found.parts(data()).values()] == [len(p) for p in parts]
        assert [int(label) for _, label in found.parts(data())["forget"]] == data().labels[found.forget].tolist()


class TestSplit:
    @pytest.mark.parametrize("forget", [Fraction(0.1, seed=3), Classes([1])])
    def test_one_split_serves_original_retraining_and_unlearning(self, forget):
        """Acceptance test 14: what is held out was never trained on; the original saw the other two, no more."""
        both = (
            split(data(), forget, holdout=Fraction(0.2, seed=5)),
            split(data(), forget, holdout=Fraction(0.2, seed=5)),
        )
        assert both[0].fingerprint == both[1].fingerprint
        parts = {name: set(part.indices) for name, part in both[0].parts(data()).items()}
        trained = parts["forget"] | parts["retain"]
        assert not trained & parts["holdout"] and not parts["forget"] & parts["retain"]
        assert trained | parts["holdout"] == set(range(N)) and len(parts["holdout"]) == 6

    def test_takes_lists_too(self):
        found = Split([4, 0], [1, 3], [2], 5)
        assert found.forget.tolist() == [0, 4]
        assert {name: list(part.indices) for name, part in found.parts(list("abcde")).items()} == {
            "forget": [0, 4],
            "retain": [1, 3],
            "holdout": [2],
        }

    def test_fingerprint_knows_parts_not_their_order(self):
        same = [Split([0, 1], [2, 3], [], 4), Split(np.array([1, 0], dtype=np.int32), [3, 2], np.array([]), 4)]
        others = [Split([0], [1, 2, 3], [], 4), Split([2, 3], [0, 1], [], 4), Split([0, 1], [2], [3], 4)]
        assert len({s.fingerprint for s in same}) == 1
        assert len({s.fingerprint for s in [*same, *others]}) == 4

    def test_fingerprint_by_hand(self):
        numbers = {name: np.array(part, dtype="<i8").tobytes() for name, part in [("f", [0, 1]), ("r", [2])]}
        content = b"forget2" + numbers["f"] + b"retain1" + numbers["r"] + b"holdout0"
        assert Split([1, 0], [2], [], 3).fingerprint == hashlib.sha256(content).hexdigest()

    def test_travels(self):
        found = Split([0], [1], [], 2)
        assert pickle.loads(pickle.dumps(found)).fingerprint == found.fingerprint

    @pytest.mark.parametrize(
        ("forget", "retain", "holdout", "says"),
        [
            ([], [0, 1, 2], [], "forget set is empty"),
            ([0, 1, 2], [], [], "retain set is empty"),
            ([0, 1], [1, 2], [], "overlap: named more than once are 1"),
            ([0], [1, 2], [2], "overlap: named more than once are 2"),
            ([0, 0], [1, 2], [], "named more than once are 0"),
            ([0], [1], [], "not complete: in none are 2"),
            ([0], [1, 2, 3], [], "outside a data set of 3"),
            ([-1], [0, 1, 2], [], "outside a data set of 3"),
            ([0.5], [1, 2], [], "integers, found float64"),
            ([True, False], [1, 2], [], "integers, found bool"),
        ],
    )
    def test_refuses_parts_that_are_none(self, forget, retain, holdout, says):
        with pytest.raises(SplitError, match=says):
            Split(forget, retain, holdout, 3)

    def test_fits_its_own_data_set_only(self):
        with pytest.raises(SplitError, match="of 30 examples, but the data set has 29"):
            split(data(), Fraction(0.1)).parts(data(29))

    @given(st.integers(2, 60), st.data())
    def test_any_choice_is_disjoint_and_complete(self, n, draw):
        forget = draw.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=n - 1, unique=True))
        found = split(data(n), Indices(forget))
        assert found.forget.tolist() == sorted(forget)
        assert found.retain.tolist() == sorted(set(range(n)) - set(forget))


class TestContent:
    """What the split is about: the hash of each part."""

    @staticmethod
    def data(pixel=0.0):
        images = torch.arange(40.0).reshape(10, 1, 2, 2)
        images[7, 0, 0, 0] += pixel
        return Examples(images, torch.arange(10) % 2)

    def test_is_the_hash_of_each_part_that_has_examples(self):
        data = self.data()
        chosen = split(data, Indices([7, 1]), Indices([3]))
        parts = chosen.parts(data)
        assert chosen.content == {name: content_hash(parts[name]) for name in ("forget", "retain", "holdout")}
        assert set(split(data, Indices([7])).content) == {"forget", "retain"}

    def test_knows_a_pixel_and_whose_it_is(self):
        first, second = (split(self.data(pixel), Indices([7, 1])) for pixel in (0.0, 1e-3))
        assert first.fingerprint == second.fingerprint
        assert first.content["forget"] != second.content["forget"]
        assert first.content["retain"] == second.content["retain"]

    def test_is_left_out_where_it_would_take_too_long(self):
        class Unreadable(Examples):
            def __getitem__(self, index):
                raise AssertionError("an example was read")

        data = Unreadable(self.data().images, self.data().labels)
        assert split(data, Indices([7]), hashed=False).content == {}
        with pytest.raises(AssertionError, match="was read"):
            split(data, Indices([7]))


@pytest.mark.parametrize("given", [[1, 2], np.array([1]), "cat", 0.1])
def test_what_is_no_selector_is_refused(given):
    for name, arguments in (("forget", (given,)), ("holdout", (Indices([0]), given))):
        with pytest.raises(InvalidInputError, match=rf"`{name}` must be a selector such as `Indices\(\[...\]\)`"):
            split(data(), *arguments)


class TestIndices:
    @pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor, lambda x: np.array(x, dtype=np.uint8)])
    def test_of_any_kind(self, kind):
        assert chosen(Indices(kind([8, 2]))) == [2, 8]

    @pytest.mark.parametrize(
        ("indices", "says"),
        [
            ([], "forget set is empty"),
            (list(range(N)), "retain set is empty"),
            ([0, N], "outside a data set of 30 examples: 30"),
            ([-1], "outside"),
            ([3, 4, 3], "named more than once: 3"),
            ([1.0, 2.0], "integers, found float64"),
            ([True] * N, "integers, found bool"),
            (["1"], "integers"),
            ([2**70], "integers"),
            (list(range(N, N + 9)), "30, 31, 32, 33, 34 and 4 more"),
        ],
    )
    def test_refuses(self, indices, says):
        with pytest.raises(SplitError, match=says):
            chosen(Indices(indices))

    def test_refuses_what_is_held_out(self):
        with pytest.raises(SplitError, match="in the holdout part too: 2, 3"):
            chosen(Indices([1, 2, 3]), holdout=Indices([2, 3]))


class TestIndexFile:
    @pytest.mark.parametrize("text", ["8\n2\n", "2 8", "\t8\r\n\r\n2", "\ufeff2 8"])
    def test_text(self, tmp_path, text):
        (tmp_path / "i.txt").write_text(text, encoding="utf-8")
        assert chosen(IndexFile(tmp_path / "i.txt")) == [2, 8]

    def test_numpy(self, tmp_path):
        np.save(tmp_path / "i.npy", np.array([[8], [2]], dtype=np.int32))
        assert chosen(IndexFile(str(tmp_path / "i.npy"))) == [2, 8]

    @pytest.mark.parametrize(
        ("name", "content", "says"),
        [
            ("missing.txt", None, "Cannot read the index file missing.txt"),
            ("missing.npy", None, "Cannot read the index file missing.npy"),
            ("binary.txt", b"\xff\xfe\x00\x81", "Cannot read the index file"),
            ("zeros.txt", b"\x00\x00", "whole numbers"),
            ("words.txt", b"1 2 three", "whole numbers.*'three'"),
            ("floats.txt", b"1.5 2", "whole numbers"),
            ("empty.txt", b"", "forget set is empty"),
            ("empty.npy", b"", "whole numbers"),
            ("text.npy", b"1 2 3", "whole numbers"),
            ("archive.npy", b"PK\x03\x04 and so on", "whole numbers"),
            ("outside.txt", b"99", "outside a data set"),
        ],
    )
    def test_refuses(self, tmp_path, name, content, says):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(SplitError, match=says):
            chosen(IndexFile(tmp_path / name))

    def test_refuses_a_folder(self, tmp_path):
        with pytest.raises(SplitError, match="Cannot read"):
            chosen(IndexFile(tmp_path))

    def test_refuses_numpy_files_of_objects_floats_or_half_an_array(self, tmp_path):
        np.save(tmp_path / "o.npy", np.array([1, "two", None], dtype=object), allow_pickle=True)
        np.save(tmp_path / "f.npy", np.array([1.0, 2.0]))
        np.save(tmp_path / "i.npy", np.arange(20))
        (tmp_path / "h.npy").write_bytes((tmp_path / "i.npy").read_bytes()[:-30])
        for name, says in {"o": "whole numbers.*Object arrays", "f": "integers", "h": "whole numbers"}.items():
            with pytest.raises(SplitError, match=says):
                chosen(IndexFile(tmp_path / f"{name}.npy"))

    def test_refuses_numpy_files_that_claim_more_than_fits_into_memory(self, tmp_path):
        with (tmp_path / "i.npy").open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<i8", "fortran_order": False, "shape": (10**14,)})
        with pytest.raises(SplitError, match="Cannot read the index file"):
            chosen(IndexFile(tmp_path / "i.npy"))


class TestClasses:
    @pytest.mark.parametrize("classes", [["dog"], [1], (np.int64(1),), ["dog", 1]])
    def test_by_name_or_number(self, classes):
        assert chosen(Classes(classes)) == list(range(1, N, 3))

    @pytest.mark.parametrize("make", [Vision, huggingface])
    def test_of_data_sets_of_others(self, make):
        assert chosen(Classes(["dog", "fox"]), make()) == [1, 2, 4, 5]

    def test_without_names_numbers_may_be_text(self):
        dataset = TensorDataset(torch.zeros(4), torch.tensor([0, 1, 10, 1]))
        assert chosen(Classes(["1"]), dataset) == [1, 3]
        with pytest.raises(UnknownNameError, match="'2'.*Known: 0, 1, 10"):
            chosen(Classes(["2"]), dataset)

    def test_of_another_column_with_its_own_names(self):
        assert chosen(Classes(["kitty"], column="fine_label"), huggingface()) == [1, 3, 5]
        with pytest.raises(UnknownNameError, match="'dog'.*Known: kitty, tom"):
            chosen(Classes(["dog"], column="fine_label"), huggingface())

    @pytest.mark.parametrize("wanted", ["dgo", 3, -1, True, 1.5])
    def test_refuses_what_is_no_class(self, wanted):
        with pytest.raises(UnknownNameError, match="Unknown class .*Known: cat, dog, fox"):
            chosen(Classes([wanted]))

    def test_suggests_the_nearest(self):
        with pytest.raises(UnknownNameError, match="Did you mean 'dog'"):
            chosen(Classes(["dgo"]))

    def test_a_class_without_examples_is_not_misspelt(self):
        dataset = Examples(torch.zeros(2, 1), torch.tensor([0, 1]), NAMES)
        for wanted in ("fox", 2):
            with pytest.raises(SplitError, match=f"no example of class {wanted!r}"):
                chosen(Classes([wanted]), dataset)

    @pytest.mark.parametrize(
        ("classes", "says"),
        [([], "forget set is empty"), ([0, 1, 2], "retain set is empty"), ("dog", r"list.*\['dog'\]")],
    )
    def test_refuses_none_all_and_one_word(self, classes, says):
        with pytest.raises(SplitError, match=says):
            chosen(Classes(classes))

    def test_refuses_columns_that_are_no_class_numbers(self):
        with pytest.raises(DataError, match="'name' does not hold one class number.*`Column`"):
            chosen(Classes(["user 1"], column="name"))
        with pytest.raises(UnknownNameError, match="column 'class'"):
            chosen(Classes([0], column="class"))

    def test_leaves_unseen_members_where_they_are(self):
        found = split(data(), Classes(["dog"]), holdout=Indices([1, 2, 3]))
        assert found.forget.tolist() == list(range(4, N, 3))
        assert found.holdout.tolist() == [1, 2, 3]


class TestFraction:
    @given(st.integers(2, 200), st.floats(0.01, 0.99), st.integers(0, 5))
    def test_takes_its_share_or_refuses(self, n, fraction, seed):
        count = round(fraction * n)
        if 0 < count < n:
            assert len(chosen(Fraction(fraction, seed), data(n))) == count
        else:
            with pytest.raises(SplitError, match="some but not all"):
                chosen(Fraction(fraction, seed), data(n))

    @pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.1, float("nan"), 1e-9])
    def test_refuses(self, fraction):
        with pytest.raises(SplitError, match=r"`fraction` must be in \(0, 1\)"):
            chosen(Fraction(fraction))

    def test_seeds_differ_and_repeat(self):
        draws = [tuple(chosen(Fraction(0.5, seed))) for seed in (0, 0, 1, 2)]
        assert len(set(draws)) == 3

    def test_is_uniform(self):
        counts = np.zeros(10)
        for seed in range(1000):
            counts[chosen(Fraction(0.2, seed), data(10))] += 1
        assert abs(counts - 200).max() < 5 * (1000 * 0.2 * 0.8) ** 0.5

    def test_of_the_rest_does_not_follow_the_holdout_part(self):
        """One stream for both would choose neighbours: in sorted data, the forgotten ones' likes are held out."""
        near = []
        for seed in range(20):
            found = split(data(1000), Fraction(0.1, seed), Fraction(0.1, seed))
            near.append(np.abs(found.forget[:, None] - found.holdout).min(axis=1).mean())
        assert np.mean(near) == pytest.approx(5.15, abs=0.4)  # of independent draws


class TestColumn:
    @pytest.mark.parametrize("values", [[5], ["5"], [np.int64(5)], {5}, (5,)])
    def test_compares_as_text(self, values):
        assert chosen(Column("user_id", values)) == list(range(5, N, 7))

    def test_text_and_hugging_face(self):
        assert chosen(Column("name", ["user 5", "user 6"])) == [5, 6, 12, 13, 19, 20, 26, 27]
        assert chosen(Column("user_id", ["u1"]), huggingface()) == [1, 3, 5]
        assert chosen(Column("session", [0, 2]), Vision()) == [0, 1, 4, 5]

    @pytest.mark.parametrize("kind", [str, lambda path: path])
    def test_values_from_a_file(self, tmp_path, kind):
        path = write(tmp_path / "requests.txt", "user 5\n\n user 6 \r\n")
        assert chosen(Column("name", kind(path))) == chosen(Column("name", ["user 5", "user 6"]))

    def test_a_value_that_never_occurs_is_an_error(self):
        with pytest.raises(SplitError, match=r"'user_id' never has the value '7', '8'\."):
            chosen(Column("user_id", [1, 8, 7]))
        with pytest.raises(SplitError, match="and 4 more"):
            chosen(Column("user_id", range(7, 16)))
        with pytest.raises(SplitError, match="'User 5'"):
            chosen(Column("name", ["User 5"]))

    def test_a_value_among_the_unseen_only_is_an_empty_request(self):
        with pytest.raises(SplitError, match="forget set is empty"):
            chosen(Column("user_id", [5]), holdout=Column("user_id", [5]))

    def test_an_empty_request(self, tmp_path):
        for values in ([], write(tmp_path / "none.txt", "\n \n")):
            with pytest.raises(SplitError, match="forget set is empty"):
                chosen(Column("user_id", values))

    def test_a_column_that_does_not_exist(self):
        with pytest.raises(UnknownNameError, match="column 'userid'. Did you mean 'user_id'"):
            chosen(Column("userid", [5]))

    @pytest.mark.parametrize("content", [None, b"\xff\xfe\x81"])
    def test_a_file_that_cannot_be_read(self, tmp_path, content):
        if content:
            (tmp_path / "users.txt").write_bytes(content)
        with pytest.raises(SplitError, match=r"'user_id' from the file '.*users.txt'.*list"):
            chosen(Column("user_id", tmp_path / "users.txt"))
