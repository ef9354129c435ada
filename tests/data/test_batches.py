import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from amnesty.data import PAIRINGS, Batches, Examples, pair, steps
from amnesty.errors import DataError, InvalidInputError, SplitError


def numbered(n):
    """Examples whose label is their position."""
    return Examples(torch.arange(n, dtype=torch.float32)[:, None], torch.arange(n))


class Noisy(Dataset):
    """One example at a time, with fresh noise: as an augmentation."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return torch.rand(3), i


class Plain(Noisy):
    def __getitem__(self, i):
        return torch.full((3,), float(i)), i


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(torch.zeros(1), 0)])


class Unsized:
    def __getitem__(self, i):
        return torch.zeros(1), 0


def order(batches, *which):
    return [batch[1].tolist() for batch in batches.iterate(*which)]


def flat(lists):
    return list(itertools.chain.from_iterable(lists))


MAKERS = [
    numbered,
    Plain,
    lambda n: TensorDataset(torch.zeros(n, 1), torch.arange(n)),
    lambda n: Subset(numbered(n), list(range(n))),
    lambda n: Subset(Plain(n), list(range(n))),
    lambda n: Subset(Subset(numbered(n), torch.arange(n)), torch.arange(n).numpy()),
]


class TestBatches:
    @given(st.integers(1, 300), st.integers(1, 40))
    def test_sizes_are_balanced(self, n, batch_size):
        batches = Batches(numbered(n), batch_size, seed=0)
        sizes = [len(batch) for batch in order(batches, 0)]
        assert len(sizes) == len(batches) == -(-n // batch_size)
        assert sum(sizes) == n
        assert max(sizes) <= batch_size
        assert max(sizes) - min(sizes) <= 1
        if n >= 2 and batch_size >= 3:
            assert min(sizes) >= 2  # no lone leftover, on which batch norm would fail

    @pytest.mark.parametrize("make", MAKERS)
    def test_a_pass_is_a_permutation_and_passes_differ(self, make):
        batches = Batches(make(50), 8, seed=0, name="retain")
        passes = [flat(order(batches, epoch)) for epoch in range(4)]
        assert all(sorted(p) == list(range(50)) for p in passes)
        assert len({tuple(p) for p in passes}) == 4

    @pytest.mark.parametrize("make", MAKERS)
    def test_seed_name_and_pass_fix_the_order_whatever_holds_the_data(self, make):
        expected = order(Batches(numbered(50), 8, seed=3, name="retain"), 5, 1)
        assert order(Batches(make(50), 8, seed=3, name="retain"), 5, 1) == expected
        assert order(Batches(make(50), 8, seed=4, name="retain"), 5, 1) != expected
        assert order(Batches(make(50), 8, seed=3, name="forget"), 5, 1) != expected

    @pytest.mark.parametrize("make", MAKERS)
    def test_without_a_seed_the_order_is_that_of_the_data(self, make):
        assert flat(order(Batches(make(20), 6))) == list(range(20))

    def test_inputs_belong_to_their_labels(self):
        for make in (numbered, Plain):
            for images, labels in Batches(make(20), 6, seed=0).iterate(0):
                assert images[:, 0].tolist() == labels.tolist()

    @pytest.mark.parametrize("make", MAKERS)
    @pytest.mark.parametrize("seed", [None, 0])
    def test_the_callers_generator_is_not_drawn_from(self, make, seed):
        before = torch.get_rng_state()
        batches = Batches(make(20), 6, seed)
        for epoch in range(2):
            list(batches.iterate(epoch))
        list(pair({"forget": batches, "retain": batches}, "cycle_forget", 0))
        assert torch.get_rng_state().equal(before)

    def test_iterators_do_not_disturb_each_other(self):
        batches = Batches(numbered(30), 4, seed=0)
        expected = order(batches, 0)
        half = batches.iterate(0)
        next(half)
        assert order(batches, 0) == expected
        assert [batch[1].tolist() for batch in half] == expected[1:]

    def test_augmentations_are_drawn_anew(self):
        batches = Batches(Noisy(4), 4)
        (first, _), (second, _) = next(batches.iterate(0)), next(batches.iterate(0))
        assert not first.equal(second)

    def test_a_loader_is_used_as_it_is(self):
        loader = DataLoader(numbered(10), batch_sampler=[[3, 1], [2], [9, 8, 7]])
        batches = Batches(loader, batch_size=99, seed=5)
        assert len(batches) == 3
        assert order(batches, 0) == order(batches, 1) == [[3, 1], [2], [9, 8, 7]]

    def test_workers_change_nothing(self):
        alone, helped = (Batches(Plain(12), 4, seed=0, workers=w) for w in (0, 1))
        before = torch.get_rng_state()
        assert order(helped, 0) == order(alone, 0)
        assert torch.get_rng_state().equal(before)

    def test_noise_in_workers_follows_the_seed(self):
        def drawn(seed, *which):
            return torch.cat([x for x, _ in Batches(Noisy(4), 2, seed, "forget", workers=1).iterate(*which)])

        assert drawn(0, 0).equal(drawn(0, 0))
        assert not drawn(0, 0).equal(drawn(0, 1))

    @pytest.mark.parametrize("size", [0, -1, 2.5, "8"])
    def test_refuses_batch_sizes_that_are_none(self, size):
        with pytest.raises(InvalidInputError, match="`batch_size` must be a whole number of at least 1"):
            Batches(numbered(3), size)

    @pytest.mark.parametrize(
        "loader",
        [
            DataLoader(numbered(10), 4, drop_last=True),
            DataLoader(numbered(10), 4, drop_last=True, shuffle=True),
            DataLoader(numbered(10), 20, drop_last=True),
            DataLoader(numbered(10), batch_sampler=BatchSampler(range(10), 4, drop_last=True)),
        ],
    )
    def test_refuses_a_loader_that_leaves_examples_out(self, loader):
        with pytest.raises(DataError, match="loader of the retain set has `drop_last=True`"):
            Batches(loader, name="retain")

    @pytest.mark.parametrize("source", [[], Subset(numbered(3), []), DataLoader(Subset(numbered(3), []), 8)])
    def test_refuses_what_is_empty(self, source):
        with pytest.raises(SplitError, match="forget set is empty"):
            Batches(source, name="forget")

    @pytest.mark.parametrize("source", [Stream(), DataLoader(Stream()), Unsized()])
    def test_refuses_what_has_no_length(self, source):
        with pytest.raises(DataError, match="forget set has no length; give a map-style data set"):
            Batches(source, name="forget")


def streams(forget, retain, size=4):
    return {
        "forget": Batches(numbered(forget), size, seed=0, name="forget"),
        "retain": Batches(numbered(retain), size, seed=0, name="retain"),
    }


def taken(streams, policy, epoch=0):
    """Return, for each step, name -> positions."""
    return [{name: batch[1].tolist() for name, batch in step.items()} for step in pair(streams, policy, epoch)]


def of(found, name):
    return flat(step[name] for step in found if name in step)


LENGTHS = [(4, 20), (12, 20), (20, 20), (36, 20), (1, 1), (50, 3)]


class TestPair:
    @pytest.mark.parametrize("policy", PAIRINGS)
    @pytest.mark.parametrize(("forget", "retain"), LENGTHS)
    def test_has_as_many_steps_as_it_says(self, policy, forget, retain):
        found = streams(forget, retain)
        assert len(taken(found, policy)) == steps(found, policy)

    @pytest.mark.parametrize("policy", PAIRINGS)
    @pytest.mark.parametrize(("forget", "retain"), LENGTHS)
    def test_no_step_is_empty_and_the_order_of_players_is_kept(self, policy, forget, retain):
        for step in taken(streams(forget, retain), policy):
            assert list(step) in (["forget"], ["retain"], ["forget", "retain"])

    @pytest.mark.parametrize(("forget", "retain"), LENGTHS)
    def test_cycle_forget(self, forget, retain):
        found = taken(streams(forget, retain), "cycle_forget")
        assert all(set(step) == {"forget", "retain"} for step in found)
        assert sorted(of(found, "retain")) == list(range(retain))
        whole = of(found, "forget")
        for start in range(0, len(whole) - forget + 1, forget):
            assert sorted(whole[start : start + forget]) == list(range(forget))

    def test_cycle_forget_shuffles_again(self):
        whole = of(taken(streams(12, 40), "cycle_forget"), "forget")
        assert len({tuple(whole[start : start + 12]) for start in (0, 12, 24)}) == 3

    def test_cycle_forget_draws_augmentations_again(self):
        found = {"forget": Batches(Noisy(2), 2, name="forget"), "retain": Batches(numbered(6), 2)}
        first, second, third = (step["forget"][0] for step in pair(found, "cycle_forget", 0))
        assert not first.equal(second)
        assert not second.equal(third)

    def test_a_long_forget_set_is_covered_over_several_epochs(self):
        found = streams(36, 20)
        assert all(len(taken(found, policy)) == 5 for policy in ("cycle_forget", "retain_tail", "truncate"))
        covered = set()
        for epoch in range(12):
            covered |= set(of(taken(found, "cycle_forget", epoch), "forget"))
        assert covered == set(range(36))

    @pytest.mark.parametrize(("forget", "retain"), LENGTHS)
    def test_retain_tail(self, forget, retain):
        found = taken(streams(forget, retain), "retain_tail")
        together = min(-(-forget // 4), -(-retain // 4))
        assert ["forget" in step for step in found] == [i < together for i in range(len(found))]
        assert sorted(of(found, "retain")) == list(range(retain))

    @pytest.mark.parametrize(("forget", "retain"), LENGTHS)
    def test_truncate(self, forget, retain):
        found = taken(streams(forget, retain), "truncate")
        assert len(found) == min(-(-forget // 4), -(-retain // 4))
        assert all(set(step) == {"forget", "retain"} for step in found)

    @pytest.mark.parametrize(("forget", "retain"), LENGTHS)
    def test_sequential(self, forget, retain):
        found = taken(streams(forget, retain), "sequential")
        assert [list(step) for step in found] == [["forget"]] * -(-forget // 4) + [["retain"]] * -(-retain // 4)
        assert sorted(of(found, "forget")) == list(range(forget))
        assert sorted(of(found, "retain")) == list(range(retain))

    @pytest.mark.parametrize("policy", PAIRINGS)
    def test_epochs_differ_and_repeat(self, policy):
        first, again, other = (taken(streams(12, 20), policy, epoch) for epoch in (0, 0, 1))
        assert first == again != other

    @pytest.mark.parametrize("policy", PAIRINGS)
    def test_one_stream(self, policy):
        alone = {"retain": streams(1, 20)["retain"]}
        assert [s["retain"] for s in taken(alone, policy)] == order(alone["retain"], 0)

    def test_three_streams(self):
        found = {"cats": Batches(numbered(4), 4, 0, "cats"), **streams(8, 20)}
        names = [set(step) for step in taken(found, "retain_tail")]
        assert names == [{"cats", "forget", "retain"}, {"forget", "retain"}, *[{"retain"}] * 3]
        assert all(len(step) == 3 for step in taken(found, "cycle_forget"))
        assert len(taken(found, "cycle_forget")) == 5
        assert len(taken(found, "truncate")) == 1
        assert len(taken(found, "sequential")) == 8

    def test_loaders(self):
        found = {"forget": Batches(DataLoader(numbered(2), 2)), "retain": Batches(DataLoader(numbered(6), 2))}
        assert of(taken(found, "cycle_forget"), "forget") == [0, 1] * 3

    @pytest.mark.parametrize("ask", [steps, lambda streams, policy: next(pair(streams, policy, 0))])
    def test_refuses_no_stream_and_unknown_policies(self, ask):
        with pytest.raises(InvalidInputError, match="no stream"):
            ask({}, "truncate")
        with pytest.raises(InvalidInputError, match="`pairing` must be one of cycle_forget, .*found 'zip'"):
            ask(streams(1, 1), "zip")


class TestSkipping:
    @pytest.mark.parametrize("make", MAKERS)
    @pytest.mark.parametrize("skip", [0, 1, 3, 4])
    def test_leaves_out_the_first_batches(self, make, skip):
        batches = Batches(make(13), 4, seed=3)
        found = [batch[1].tolist() for batch in batches.iterate(1, skip=skip)]
        assert found == order(batches, 1)[skip:]

    @pytest.mark.parametrize("policy", PAIRINGS)
    @pytest.mark.parametrize("lengths", [(9, 22), (22, 9), (12, 24), (5, 5)])
    def test_a_pass_goes_on_from_any_step(self, policy, lengths):
        names = ("forget", "retain")
        streams = {n: Batches(Plain(k), 3, 5, n) for n, k in zip(names, lengths, strict=True)}

        def told(skip):
            return [{n: b[1].tolist() for n, b in step.items()} for step in pair(streams, policy, 2, skip)]

        whole = told(0)
        assert [told(skip) for skip in range(len(whole) + 1)] == [whole[skip:] for skip in range(len(whole) + 1)]

    def test_reads_nothing_that_is_left_out(self):
        class Counting(Plain):
            reads = 0

            def __getitem__(self, i):
                Counting.reads += 1
                return super().__getitem__(i)

        list(Batches(Counting(20), 5, seed=0).iterate(skip=3))
        assert Counting.reads == 5

    @pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
    def test_workers_draw_what_they_would_have_drawn(self):
        batches = Batches(Noisy(24), 3, seed=1, workers=2)
        whole = [batch[0] for batch in batches.iterate(1)]
        rest = [batch[0] for batch in batches.iterate(1, skip=3)]
        assert len(rest) == 5 and all(torch.equal(a, b) for a, b in zip(rest, whole[3:], strict=True))
