import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
)

from amnesty.errors import SplitError
from amnesty.tasks.overlap import refuse_shared_indices

from .samples import numbered

BASE = numbered(range(10), [0] * 10)
OTHER = numbered(range(10), [0] * 10)


def part(*indices):
    return Subset(BASE, list(indices))


def sampled(*indices):
    return DataLoader(BASE, sampler=SubsetRandomSampler(indices))


def batched(*indices):
    return DataLoader(BASE, batch_sampler=BatchSampler(SubsetRandomSampler(indices), 2, drop_last=False))


OVERLAPPING = {
    "subsets": (part(1, 2), part(2, 3)),
    "subsets of subsets": (Subset(part(0, 2, 4), [1]), Subset(Subset(part(2, 3, 4), [0, 1]), [0])),
    "a subset and the whole": (part(2), BASE),
    "the whole twice": (BASE, BASE),
    "counted from the end": (part(-8), part(2)),
    "indices in a tensor": (Subset(BASE, torch.tensor([2])), part(2)),
    "joined sets": (ConcatDataset([OTHER, BASE]), part(2)),
    "parts of joined sets": (Subset(ConcatDataset([OTHER, BASE]), [12]), part(2)),
    "loaders": (DataLoader(part(1, 2)), DataLoader(part(2, 3), shuffle=True)),
    "samplers": (sampled(1, 2), sampled(2, 3)),
    "samplers of batches": (batched(1, 2), part(2)),
    "loaders without batches": (DataLoader(part(2), batch_size=None), sampled(2)),
}
APART = {
    "subsets": (part(1, 2), part(3, 4)),
    "subsets of subsets": (Subset(part(0, 2, 4), [1]), Subset(part(2, 3, 4), [1, 2])),
    "equal indices of two sets": (part(1, 2), Subset(OTHER, [1, 2])),
    "two sets": (BASE, OTHER),
    "parts of joined sets": (Subset(ConcatDataset([OTHER, BASE]), [2]), part(2)),
    "samplers": (sampled(1, 2), sampled(3, 4)),
    "samplers of batches": (batched(1, 2), batched(3)),
    "what cannot be known": (DataLoader(BASE, batch_sampler=[[1]]), DataLoader(BASE, batch_sampler=[[2]])),
    "samplers of others": (DataLoader(BASE, sampler=[1, 2]), DataLoader(BASE, sampler=[3])),
}


@pytest.mark.parametrize("case", OVERLAPPING.values(), ids=OVERLAPPING.keys())
def test_shared_indices_are_refused_in_both_orders(case):
    for forget, retain in (case, case[::-1]):
        with pytest.raises(SplitError, match=r"`forget` and `retain` overlap: they share \d+ .* as index (0|2)\."):
            refuse_shared_indices({"forget": forget, "retain": retain})


@pytest.mark.parametrize("case", APART.values(), ids=APART.keys())
def test_others_are_not(case):
    for forget, retain in (case, case[::-1]):
        refuse_shared_indices({"forget": forget, "retain": retain})


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("forget", "holdout"),
        ("retain", "holdout"),
        ("forget", "validation"),
        ("retain", "nonmembers"),
        ("validation", "holdout"),
        ("validation", "nonmembers"),
    ],
)
def test_every_two_parts_are_compared(one, two):
    with pytest.raises(SplitError, match=f"`{one}` and `{two}` overlap"):
        refuse_shared_indices({one: part(1, 2), "other": part(7), two: part(2)})


def test_two_unseen_parts_may_share():
    refuse_shared_indices({"holdout": part(1, 2), "nonmembers": part(2)})


def test_an_index_that_does_not_exist_is_refused():
    with pytest.raises(SplitError, match="`forget` takes an index that its data set does not have"):
        refuse_shared_indices({"forget": part(99), "retain": part(1)})


def test_a_sequential_sampler_takes_all():
    with pytest.raises(SplitError, match="share 10 examples"):
        refuse_shared_indices({"forget": DataLoader(BASE, sampler=SequentialSampler(BASE)), "retain": BASE})
