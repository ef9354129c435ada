import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from amnesty.data import Batches, Examples, Joined, Together, WithLabels, dataset_of, read_column, sampled
from amnesty.data.examples import read_batch, reads_batches
from amnesty.errors import DataError


def examples(count, start=0):
    """Example number i is ``start + i``, and its label ten times that."""
    numbers = torch.arange(start, start + count)
    return Examples(numbers[:, None].float(), 10 * numbers)


class OneByOne(Dataset):
    """A data set that knows nothing of batches."""

    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        assert isinstance(i, int)
        image, label = self.data[i]
        return image, int(label)


class Mappings(OneByOne):
    def __getitem__(self, i):
        image, label = super().__getitem__(i)
        return {"img": image, "label": label}


def joined(wrap=lambda data: data):
    return ConcatDataset([wrap(examples(4)), wrap(examples(3, 100)), Subset(wrap(examples(9, 200)), [8, 0, 5])])


NUMBERS = [0, 1, 2, 3, 100, 101, 102, 208, 200, 205]


class TestBatchesOfJoinedSets:
    @pytest.mark.parametrize("order", [[0], [9, 0, 4, 3, 7, 5], [6, 6, 1], list(range(10)), [8, 9]])
    def test_are_the_examples_in_the_order_asked_for(self, order):
        assert reads_batches(joined())
        images, labels = read_batch(joined(), order)
        assert images[:, 0].tolist() == [NUMBERS[i] for i in order]
        assert labels.tolist() == [10 * NUMBERS[i] for i in order]

    def test_are_read_through_parts_and_from_joined_sets_within(self):
        nested = Subset(ConcatDataset([joined(), examples(2, 300)]), torch.tensor([11, 4, 0, 10]))
        assert read_batch(nested, [3, 0, 1])[1].tolist() == [3000, 3010, 1000]

    def test_are_the_same_as_those_of_a_loader(self):
        quick, slow = (list(Batches(joined(wrap), 4, seed=3).iterate(1)) for wrap in (lambda x: x, OneByOne))
        assert len(quick) == len(slow) == 3
        for (images, labels), (others, theirs) in zip(quick, slow, strict=True):
            assert torch.equal(images, others) and torch.equal(labels, theirs)

    def test_are_not_read_so_where_one_set_cannot(self):
        assert not reads_batches(ConcatDataset([examples(2), OneByOne(examples(2))]))


class TestJoined:
    def test_every_example_is_an_input_and_a_label(self):
        data = Joined([examples(2), OneByOne(examples(2, 100)), Mappings(examples(2, 200))])
        assert [(float(x), int(y)) for x, y in data] == [(n, 10 * n) for n in (0, 1, 100, 101, 200, 201)]
        assert not reads_batches(data) and read_column(data, "label").tolist() == [0, 10, 1000, 1010, 2000, 2010]

    def test_batches_are_read_where_every_set_can(self):
        data = Joined([examples(2), Subset(examples(9, 200), [8])])
        assert reads_batches(data) and read_batch(data, [2, 0])[1].tolist() == [2080, 0]

    def test_labels_of_another_type_are_not_made_to_fit(self):
        (_, label), (_, other) = Joined([[(0.0, 0.5)], [(0.0, 2)]])
        assert label.item() == 0.5 and other.dtype == torch.int64

    def test_what_is_neither_a_pair_nor_a_mapping_is_handed_on(self):
        assert Joined([[3.0], [4.0]])[1] == 4.0


class TestTogether:
    @pytest.mark.parametrize("wrap", [lambda data: data, OneByOne])
    def test_every_example_knows_where_it_comes_from(self, wrap):
        both = Together([wrap(examples(4)), wrap(examples(3, 100)), wrap(examples(2, 200))])
        assert len(both) == 9
        found = [(float(image), origin) for (image, _), origin in (both[i] for i in range(9))]
        assert found == [(n, n // 100) for n in (0, 1, 2, 3, 100, 101, 102, 200, 201)]

    @pytest.mark.parametrize("wrap", [lambda data: data, OneByOne, Mappings])
    def test_a_shuffled_pass_has_every_example_once(self, wrap):
        both = Together([wrap(examples(4)), wrap(examples(7, 100))])
        assert reads_batches(both) is (wrap not in (OneByOne, Mappings))
        seen = []
        for batch, origin in Batches(both, 4, seed=1, name="together").iterate(1):
            images, labels = batch
            assert torch.equal(10 * images[:, 0], labels.float())
            assert torch.equal(images[:, 0] >= 100, origin == 1)
            seen += images[:, 0].int().tolist()
        assert sorted(seen) == [0, 1, 2, 3, *range(100, 107)] != seen

    def test_sets_of_different_kinds_share_batches(self):
        both = Together([examples(3), OneByOne(examples(3, 100)), Mappings(examples(3, 200))])
        for (images, labels), origin in Batches(both, 4, seed=2).iterate():
            assert torch.equal(10 * images[:, 0].long(), labels) and torch.equal(images[:, 0] // 100, origin.float())

    def test_both_ways_of_reading_agree(self):
        passes = []
        for wrap in (lambda data: data, OneByOne):
            both = Together([wrap(examples(4)), wrap(examples(7, 100))])
            passes.append(list(Batches(both, 4, seed=1).iterate(1)))
        for ((images, labels), origin), ((others, theirs), its) in zip(*passes, strict=True):
            assert images.equal(others) and labels.equal(theirs) and origin.equal(its)


class TestWithLabels:
    @pytest.mark.parametrize("wrap", [lambda data: data, OneByOne, Mappings])
    def test_inputs_stay_and_labels_are_those_given(self, wrap):
        data = WithLabels(wrap(examples(5)), torch.tensor([4, 3, 2, 1, 0]))
        assert [(float(x), y) for x, y in (data[i] for i in range(5))] == [(i, 4 - i) for i in range(5)]
        for images, labels in Batches(data, 2, seed=0).iterate():
            assert torch.equal(images[:, 0], 4 - labels.float()) and labels.dtype == torch.int64

    def test_the_data_set_keeps_its_own(self):
        data = examples(3)
        assert read_batch(WithLabels(data, torch.tensor([7, 8, 9])), [2, 0])[1].tolist() == [9, 7]
        assert data.labels.tolist() == [0, 10, 20]

    @pytest.mark.parametrize("count", [0, 2, 4])
    def test_there_is_one_label_for_each_example(self, count):
        with pytest.raises(DataError, match=f"`labels` has {count} entries for 3 examples"):
            WithLabels(examples(3), torch.zeros(count, dtype=torch.int64))


DATA = examples(6)
KNOWN = {
    "in order": (DataLoader(DATA, 4), range(6)),
    "shuffled": (DataLoader(DATA, 4, shuffle=True), range(6)),
    "a random part": (DataLoader(DATA, 4, sampler=SubsetRandomSampler([4, 1])), [4, 1]),
    "batches": (DataLoader(DATA, batch_sampler=BatchSampler(RandomSampler(DATA), 2, False)), range(6)),
    "one by one": (DataLoader(DATA, batch_size=None, sampler=SequentialSampler(DATA)), range(6)),
    "a part": (DataLoader(Subset(DATA, [5, 2]), 4), range(2)),
}
UNKNOWN = {
    "weights": DataLoader(DATA, 4, sampler=WeightedRandomSampler([1.0] * 6, 6)),
    "a list": DataLoader(DATA, 4, sampler=[3, 4]),
    "lists": DataLoader(DATA, batch_sampler=[[0, 1], [5]]),
}


class TestLoaders:
    @pytest.mark.parametrize("kind", KNOWN)
    def test_what_a_loader_draws_from(self, kind):
        loader, indices = KNOWN[kind]
        assert list(sampled(loader)) == list(indices)

    @pytest.mark.parametrize("kind", UNKNOWN)
    def test_what_cannot_be_known(self, kind):
        assert sampled(UNKNOWN[kind]) is None
        with pytest.raises(DataError, match="cannot see through the sampler .* Give the data set itself"):
            dataset_of(UNKNOWN[kind], "forget")

    @pytest.mark.parametrize("kind", sorted(KNOWN.keys() - {"one by one"}))
    def test_the_data_set_behind_one(self, kind):
        loader, indices = KNOWN[kind]
        data = dataset_of(loader, "forget")
        numbers = loader.dataset[list(indices)][0] if kind != "a part" else torch.tensor([[5.0], [2.0]])
        assert read_batch(data, list(range(len(data))))[0].equal(numbers)

    @pytest.mark.parametrize("loader", [DataLoader(DATA, 2, collate_fn=list), KNOWN["one by one"][0]])
    def test_batches_made_otherwise_cannot_be_seen_through(self, loader):
        with pytest.raises(DataError, match="reads the retain set in an order of its own"):
            dataset_of(loader, "retain")

    def test_a_data_set_is_itself(self):
        for data in (DATA, TensorDataset(torch.zeros(2)), Subset(DATA, [1])):
            assert dataset_of(data, "forget") is data
