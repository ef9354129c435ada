import json
import random

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, Subset, TensorDataset

from amnesty.data import Examples, example_hash, load_digits
from amnesty.data import searching as module
from amnesty.data.alike import Limits
from amnesty.data.duplicates import Copy, Duplicates, find_duplicates
from amnesty.errors import DataError, InvalidInputError, SplitError
from tests.data.copies import CHANGES, photographs

FORGET, OTHERS = photographs(24), photographs(140, seed=1)


def examples(pictures, label=0):
    return Examples(pictures, torch.full((len(pictures),), label))


def planted(change=CHANGES["shifted by 1"]):
    """Copies of the pictures to forget 0..9 in the retain set at 20..29, of 10..14 among the holdout at 0..4."""
    retain, holdout = OTHERS[:100].clone(), OTHERS[100:].clone()
    retain[20:30], holdout[:5] = change(FORGET[:10]), change(FORGET[10:15])
    return examples(FORGET), {"retain": examples(retain), "holdout": examples(holdout)}


WHERE = {("retain", 20 + i): i for i in range(10)} | {("holdout", i): 10 + i for i in range(5)}


def where(found):
    return {(copy.part, copy.index): copy.forget for copy in found.clear}


class Lazy(Dataset):
    """Reads one example at a time, and knows how many are about."""

    def __init__(self, data):
        self.data, self.read = data, 0

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        assert isinstance(i, int)
        self.read += 1
        picture, label = self.data[i]
        return {"image": picture, "label": int(label)}


class TestFinding:
    @pytest.mark.parametrize("kind", ["shifted by 2", "mirrored, shifted, compressed"])
    def test_near_copies_and_nothing_else(self, kind):
        found = find_duplicates(*planted(CHANGES[kind]))
        assert where(found) == WHERE
        assert {copy.kind for copy in found.copies} == {"pixels"}
        assert found.counts() == {"retain": {"pixels": 10}, "holdout": {"pixels": 5}}
        assert found.counts(clear=False) == {}
        assert found.sizes == {"retain": 100, "holdout": 40}

    def test_equal_inputs_and_whether_labels_are_equal_too(self):
        pictures = torch.cat([FORGET[:2], OTHERS[:50]])
        labels = torch.zeros(52, dtype=torch.int64)
        labels[1] = 3
        found = find_duplicates(examples(FORGET), {"retain": Examples(pictures, labels)}, near=())
        first, second = found.copies
        assert (first.index, first.forget, first.kind, first.same_label) == (0, 0, "exact", True)
        assert (second.index, second.forget, second.kind, second.same_label) == (1, 1, "relabelled", False)
        assert first.clear and second.clear
        assert first.hash == first.forget_hash == example_hash(FORGET[0], 0).hex()
        assert second.hash == example_hash(FORGET[1], 3).hex()
        assert second.forget_hash == example_hash(FORGET[1], 0).hex()

    def test_an_equal_label_goes_before_an_equal_input(self):
        forget = Examples(FORGET[[0, 0]], torch.tensor([5, 7]))
        found = find_duplicates(forget, {"retain": examples(FORGET[:1], 7)}, near=())
        assert [(copy.kind, copy.forget) for copy in found.copies] == [("exact", 1)]

    def test_a_near_copy_under_another_label(self):
        forget, parts = planted()
        found = find_duplicates(forget, {"retain": examples(parts["retain"].images, 9)})
        assert len(found.clear) == 10
        assert not any(copy.same_label for copy in found.clear)

    def test_copies_within_a_part_are_no_leak(self):
        pictures = torch.cat([OTHERS, OTHERS[:20].flip(3)])
        found = find_duplicates(examples(FORGET[[0, 0, 1]]), {"retain": examples(pictures)})
        assert found.copies == ()

    def test_any_number_of_copies_of_one_example(self):
        copies = torch.cat(
            [torch.roll(FORGET[:1], k, 3).flip(3) for k in (-1, 0, 1)] + [FORGET[:1] * s for s in (0.7, 0.8)]
        )
        found = find_duplicates(examples(FORGET), {"retain": examples(torch.cat([copies, OTHERS]))})
        assert where(found) == {("retain", k): 0 for k in range(5)}

    def test_sets_by_name(self):
        forget, parts = planted()
        sets = {"user 7": Subset(forget, range(12)), "user 9": Subset(forget, range(12, 24))}
        found = find_duplicates(sets, parts)
        named = {(c.part, c.index): (c.forget_set, c.forget) for c in found.clear}
        assert named == {k: ("user 7", i) if i < 12 else ("user 9", i - 12) for k, i in WHERE.items()}

    def test_handwritten_digits_are_alike_but_no_copies(self):
        digits = load_digits()
        order = np.random.default_rng(0).permutation(len(digits))
        parts = {"retain": Subset(digits, order[180:1300].tolist()), "holdout": Subset(digits, order[1300:].tolist())}
        found = find_duplicates(Subset(digits, order[:180].tolist()), parts)
        assert found.limits["pixels"].clear > 0.95
        assert len(found.clear) <= 1
        assert len(found.copies) <= 10
        copied = Examples(0.8 * digits.images[order[:30]] + 0.1, digits.labels[order[:30]])
        found = find_duplicates(Subset(digits, order[:180].tolist()), parts | {"validation": copied})
        assert sum(copy.part == "validation" for copy in found.clear) >= 27

    @pytest.mark.parametrize("digit", [0, 6])
    def test_unseen_digits_of_a_forgotten_class_are_no_copies(self, digit):
        digits = load_digits()
        labels = digits.labels.numpy()
        seen, unseen = np.split(np.random.default_rng(0).permutation(len(digits)), [1200])
        parts = {
            "retain": Subset(digits, seen[labels[seen] != digit].tolist()),
            "holdout": Subset(digits, unseen.tolist()),
        }
        found = find_duplicates(Subset(digits, seen[labels[seen] == digit].tolist()), parts)
        assert found.clear == ()
        assert found.limits["pixels"].compared < 80  # found from those of the class


class TestWhatDoesNotMatter:
    def test_the_order_of_examples(self):
        forget, parts = planted()
        order = np.random.default_rng(1).permutation(24)
        shuffled = {name: np.random.default_rng(2).permutation(len(part)) for name, part in parts.items()}
        moved = {name: Subset(part, shuffled[name].tolist()) for name, part in parts.items()}
        found = find_duplicates(Subset(forget, order.tolist()), moved)
        back = {(c.part, int(shuffled[c.part][c.index])): int(order[c.forget]) for c in found.copies}
        assert back == {(c.part, c.index): c.forget for c in find_duplicates(forget, parts).copies} == WHERE

    def test_the_size_of_blocks(self, monkeypatch):
        forget, parts = planted()
        whole = find_duplicates(forget, parts)
        monkeypatch.setattr(module, "BLOCK", 33)
        monkeypatch.setattr(module, "AT_ONCE", 10)
        pieces = find_duplicates(forget, parts)
        assert where(pieces) == where(whole) == WHERE
        for one, other in zip(pieces.copies, whole.copies, strict=True):
            assert one.likeness == pytest.approx(other.likeness, abs=1e-5)

    def test_that_data_is_read_one_by_one(self):
        forget, parts = planted()
        lazy = {name: Lazy(part) for name, part in parts.items()}
        assert find_duplicates(Lazy(forget), lazy) == find_duplicates(forget, parts)
        assert {name: part.read for name, part in lazy.items()} == {"retain": 101, "holdout": 41}  # once, and a look

    def test_that_a_likeness_of_what_is_usual_is_found_from_few(self, monkeypatch):
        monkeypatch.setattr(module, "USUAL", 60)
        found = find_duplicates(*planted())
        assert where(found) == WHERE
        assert 30 < found.limits["pixels"].compared < 90

    def test_the_random_state_of_the_caller(self):
        torch.manual_seed(3)
        random.seed(3)
        expected = torch.rand(1), random.random()
        torch.manual_seed(3)
        random.seed(3)
        find_duplicates(*planted())
        assert (torch.rand(1), random.random()) == expected


def test_large_examples_come_in_small_blocks(monkeypatch):
    monkeypatch.setattr(module, "BYTES", 4 * 3 * 32 * 32 * 6)
    sizes = []
    batch_hashes = module.batch_hashes
    monkeypatch.setattr(module, "batch_hashes", lambda x, y: sizes.append(len(x)) or batch_hashes(x, y))
    find_duplicates(*planted())
    assert max(sizes) == 6


class TestInputsThatAreNoImages:
    def table(self, integer=False):
        draw = torch.Generator().manual_seed(0)
        rows = torch.randn(400, 12, generator=draw) * torch.tensor([1.0, 1000.0] * 6)
        rows[200:205] = rows[:5] * (1 + 0.002 * torch.randn(5, 12, generator=draw))
        rows[205] = rows[5]
        rows = rows.long() if integer else rows
        data = TensorDataset(rows, torch.zeros(400, dtype=torch.int64))
        return Subset(data, range(20)), {"retain": Subset(data, range(20, 400))}

    def test_are_compared_by_their_numbers(self):
        found = find_duplicates(*self.table())
        assert where(found) == {("retain", 180 + i): i for i in range(6)}
        assert [copy.kind for copy in found.clear] == ["pixels"] * 5 + ["exact"]

    def test_codes_only_by_equality(self):
        found = find_duplicates(*self.table(integer=True))
        assert where(found) == {("retain", 185): 5}
        assert "equal ones" in found.skipped["pixels"]


class TestFeatures:
    def features(self, inputs):
        return inputs.mean((2, 3))  # nothing but the mean colour

    def search(self, **options):
        forget, parts = planted()
        parts["retain"].images[40] = FORGET[20].flip(1)  # upside down: no copy in pixels
        options = {"near": ("pixels", "features"), "features": self.features} | options
        return find_duplicates(forget, parts, **options)

    def test_alone_are_never_clear(self):
        found = self.search(near=("features",))
        assert ("retain", 40) in {(copy.part, copy.index) for copy in found.copies}
        assert found.clear == ()
        assert found.limits["features"].clear is None
        assert self.search(near=("features",), threshold=0.9).clear == ()

    def test_give_way_to_pixels(self):
        found = self.search()
        kinds = {(copy.part, copy.index): copy.kind for copy in found.copies}
        assert {kinds[key] for key in WHERE} == {"pixels"}
        assert kinds["retain", 40] == "features"

    def test_see_inputs_in_blocks(self, monkeypatch):
        monkeypatch.setattr(module, "BLOCK", 9)
        sizes = []
        self.search(features=lambda x: sizes.append(len(x)) or x.flatten(1))
        assert max(sizes) <= 9


class TestThreshold:
    def test_takes_the_place_of_what_the_data_says(self):
        forget, parts = planted(CHANGES["noise 0.03"])
        likeness = sorted(copy.likeness for copy in find_duplicates(forget, parts).clear)
        found = find_duplicates(forget, parts, threshold=likeness[5])
        assert len(found.clear) == len(found.copies) == 10
        assert found.limits["pixels"] == Limits(likeness[5], likeness[5])

    def test_limits_can_be_used_again(self):
        found = find_duplicates(*planted(), limits={"pixels": Limits(2.0, 0.9, 5)})
        assert (len(found.clear), len(found.copies)) == (0, 15)


class TestRecord:
    def test_is_plain_and_holds_no_pixels(self):
        found = find_duplicates(*planted(), near=("pixels", "features"), features=lambda x: x.flatten(1))
        record = json.loads(json.dumps(found.describe(), allow_nan=False))
        assert record["counts"] == {"retain": {"pixels": 10}, "holdout": {"pixels": 5}}
        assert record["searched"] == {"retain": 100, "holdout": 40}
        assert record["limits"]["pixels"]["clear"] == 0.9
        first = record["copies"][0]
        assert (first["part"], first["index"], first["forget"], first["clear"]) == ("retain", 20, 0, True)
        assert len(first["hash"]) == len(first["forget_hash"]) == 64

    def many(self, count):
        facts = {"forget_set": "forget", "same_label": True, "hash": "a", "forget_hash": "b", "likeness": 0.95}
        return tuple(
            Copy(part="retain", index=i, forget=0, kind="pixels", clear=i >= 500, **facts) for i in range(count)
        )

    def test_lists_a_thousand_copies_the_clear_ones_first(self):
        record = Duplicates(copies=self.many(1700), sizes={"retain": 2000}).describe()
        assert len(record["copies"]) == 1000
        assert record["not_listed"] == 700
        assert all(copy["clear"] for copy in record["copies"])

    def test_table(self):
        found = Duplicates(copies=self.many(502), sizes={"retain": 2000, "holdout": 7}, skipped={"features": "no."})
        lines = found.table().splitlines()
        assert lines[0].split("  ")[0] == "part"
        assert lines[1].split() == ["retain", "2000", "0", "0", "2", "+", "500?", "0"]
        assert lines[2].split() == ["holdout", "7", "0", "0", "0", "0"]
        assert lines[3] == "features not searched: no."
        assert len({len(line) for line in lines[:3]}) == 1

    def test_a_copy_in_words(self):
        copy = self.many(1)[0]
        assert str(copy) == "retain 0 = forget 0 (near (pixels), 0.950)"


class TestRefusals:
    @pytest.mark.parametrize("near", ["pixels", ("hashes",)])
    def test_of_kinds(self, near):
        with pytest.raises(InvalidInputError, match="`near` must be a list of pixels, features"):
            find_duplicates(*planted(), near=near)

    def test_of_features_without_a_function(self):
        with pytest.raises(InvalidInputError, match="give `features`"):
            find_duplicates(*planted(), near=("features",))

    @pytest.mark.parametrize("threshold", [0.0, 1.5, float("nan")])
    def test_of_thresholds(self, threshold):
        with pytest.raises(InvalidInputError, match=r"in \(0, 1\]"):
            find_duplicates(*planted(), threshold=threshold)

    def test_of_an_empty_part(self):
        forget, parts = planted()
        with pytest.raises(SplitError, match="holdout set is empty"):
            find_duplicates(forget, parts | {"holdout": Subset(forget, [])})

    def test_of_other_sizes(self):
        with pytest.raises(DataError, match="of one size"):
            find_duplicates(examples(FORGET), {"retain": examples(photographs(3, side=28))})
        with pytest.raises(DataError, match="of one size"):
            find_duplicates(examples(torch.zeros(2, 5)), {"retain": examples(torch.zeros(2, 6))})

    def test_of_examples_without_a_label(self):
        with pytest.raises(DataError, match="retain set must be pairs or mappings"):
            find_duplicates(examples(FORGET), {"retain": TensorDataset(OTHERS)})
