import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import ConcatDataset, Dataset, Subset

from amnesty.data import Examples
from amnesty.errors import ModelError, SplitError
from amnesty.requests import leaks
from amnesty.requests.leaks import act, penultimate, search
from amnesty.requests.parts import Parts, Rows
from amnesty.requests.request import DuplicatesSpec
from tests.data.copies import photographs

PICTURES = photographs(24)
OTHERS = photographs(160, seed=1)


def examples(pictures):
    return Examples(pictures, torch.arange(len(pictures)) % 3)


def net(*head):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = (nn.Conv2d(3, 6, 5, stride=3), nn.BatchNorm2d(6), nn.ReLU())
        return nn.Sequential(*body, *(head or (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))))


def situation():
    """Forget sets of 12 pictures each; copies of 0 and 15 in retain, of 1 among the holdout, of 2 in validation."""
    retain, holdout, validation = (part.clone() for part in OTHERS.split([100, 40, 20]))
    retain[7], retain[9] = PICTURES[0].flip(2), 0.8 * PICTURES[15]
    holdout[3], validation[4] = PICTURES[1], torch.roll(PICTURES[2], 1, 2)
    sets = examples(PICTURES)
    forget = {"first": Subset(sets, range(12)), "second": Subset(sets, range(12, 24))}
    return forget, {"retain": examples(retain), "holdout": examples(holdout), "validation": examples(validation)}


def chain(length):
    """Each copy in retain is like the one before, moved by two pixels more; the last are not like the first."""
    _, parts = situation()
    long = torch.cat([PICTURES[5], PICTURES[6]], 2)  # 64 pixels wide, seen through a window of 32
    windows = torch.stack([long[:, :, 2 * k : 2 * k + 32] for k in range(length + 1)])
    parts["retain"].images[7:10] = OTHERS[7:10]
    parts["retain"].images[50 : 50 + length] = windows[1:]
    parts = {"retain": parts["retain"]}
    return {"forget": examples(windows[:1])}, parts


def searched(forget, parts, action="move", **options):
    spec = DuplicatesSpec(action=action, near=("exact", "pixels"), **options)
    return spec, search(forget, parts, spec, net())


def done(forget, parts, action):
    spec, found = searched(forget, parts, action)
    return act(parts, found, spec)


def after(forget, parts, changes):
    kept = {n: Subset(p, changes.keep.get(n, np.arange(len(p))).tolist()) for n, p in parts.items()}
    added = {n: Subset(parts[part], i.tolist()) for n, (part, i) in changes.add.items()}
    return {n: ConcatDataset([s, added[n]]) if n in added else s for n, s in forget.items()}, kept


class TestSearch:
    def test_in_all_parts_and_by_all_kinds(self):
        forget, parts = situation()
        model = net()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        found = search(forget, parts, DuplicatesSpec(), model)
        assert {(c.part, c.index, c.forget_set, c.forget) for c in found.clear} == {
            ("retain", 7, "first", 0),
            ("retain", 9, "second", 3),
            ("holdout", 3, "first", 1),
            ("validation", 4, "first", 2),
        }
        assert list(found.limits) == ["pixels", "features"]
        assert model.training
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, before[name])

    def test_equal_ones_only(self):
        forget, parts = situation()
        found = search(forget, parts, DuplicatesSpec(near=("exact",)), net())
        assert [(c.part, c.index) for c in found.copies] == [("holdout", 3)]

    def test_the_threshold_is_that_of_the_request(self):
        forget, parts = situation()
        _, found = searched(forget, parts, threshold=0.9999)
        assert {c.part for c in found.clear} == {"retain", "holdout", "validation"}
        assert found.limits["pixels"].clear == 0.9999

    def test_a_model_without_a_classifier_is_searched_without_features(self):
        class Squared(nn.Module):
            def __init__(self):
                super().__init__()
                self.net = net()

            def forward(self, x):
                return self.net(x)[:, :2] ** 2

        forget, parts = situation()
        found = search(forget, parts, DuplicatesSpec(), Squared())
        assert "No classifier found" in found.skipped["features"]
        assert len(found.clear) == 4

    def test_a_model_of_other_inputs_is_refused(self):
        forget, parts = situation()
        with pytest.raises(ModelError, match=r"cannot take inputs of shape \[2, 3, 32, 32\]"):
            search(forget, parts, DuplicatesSpec(), nn.Linear(4, 3))


class TestPenultimate:
    def test_is_what_the_classifier_is_given(self):
        model, inputs = net().eval(), OTHERS[:70]
        with torch.no_grad():
            expected = model[:-1](inputs)
        torch.testing.assert_close(penultimate(model.train(), inputs[:2])(inputs), expected)

    def test_of_maps_is_the_mean(self):
        model = net(nn.AdaptiveAvgPool2d(2), nn.Conv2d(6, 3, 2), nn.Flatten()).eval()
        with torch.no_grad():
            expected = model[:4](OTHERS[:5]).mean((2, 3))
        torch.testing.assert_close(penultimate(model, OTHERS[:2])(OTHERS[:5]), expected)

    def test_leaves_no_hook_behind(self):
        model = net()
        features = penultimate(model, OTHERS[:2])
        features(OTHERS[:3])
        with pytest.raises(RuntimeError):
            features(torch.zeros(1, 1))
        assert not any(module._forward_pre_hooks for module in model.modules())


class TestRefuse:
    def test_says_what_there_is_and_what_to_do(self):
        with pytest.raises(SplitError) as caught:
            done(*situation(), "refuse")
        said = str(caught.value)
        assert "4 examples outside the forget set are copies" in said
        assert "(2 in retain, 1 in holdout, 1 in validation)" in said
        assert "retain 7 = forget set 'first' 0 (near (pixels)" in said
        assert "and 1 more" in said
        assert all(f"`{choice}`" in said for choice in ("move", "drop", "keep"))

    def test_nothing_where_there_is_nothing(self):
        forget, parts = situation()
        changes = done({"second": Subset(forget["second"], range(4, 12))}, parts, "refuse")
        assert (changes.keep, changes.add, changes.duplicates) == ({}, {}, "refuse")


class TestMove:
    def test_copies_join_the_set_that_they_are_of(self):
        changes = done(*situation(), "move")
        assert {n: (p, i.tolist()) for n, (p, i) in changes.add.items()} == {
            "first": ("retain", [7]),
            "second": ("retain", [9]),
        }
        everything = {"retain": 100, "holdout": 40, "validation": 20}
        gone = {n: sorted(set(range(everything[n])) - set(kept.tolist())) for n, kept in changes.keep.items()}
        assert gone == {"retain": [7, 9], "holdout": [3], "validation": [4]}
        assert changes.duplicates == "refuse"
        assert changes.settled

    def test_copies_of_copies_follow(self):
        changes = done(*chain(5), "move")
        assert changes.add["forget"][1].tolist() == [50, 51, 52, 53, 54]
        assert changes.rounds > 2
        late = [copy for copy in changes.found.copies if copy.round > 1]
        assert late
        assert {(copy.forget_set, copy.forget) for copy in late} == {("forget", 0)}
        assert changes.settled

    def test_but_not_for_ever(self, monkeypatch):
        monkeypatch.setattr(leaks, "ROUNDS", 2)
        changes = done(*chain(6), "move")
        assert changes.rounds == 2
        assert not changes.settled
        assert 0 < len(changes.add["forget"][1]) < 6

    def test_a_copy_of_a_moved_one_is_taken_out_elsewhere(self):
        forget, parts = chain(2)
        parts["holdout"] = examples(torch.cat([parts["retain"].images[51:52], OTHERS[100:140]]))
        changes = done(forget, parts, "move")
        assert changes.keep["holdout"].tolist() == list(range(1, 41))

    def test_fits_the_parts_of_a_request(self):
        forget, others = situation()
        training = ConcatDataset([*forget.values(), others["retain"]])
        unseen = ConcatDataset([others["holdout"], others["validation"]])
        parts = Parts(
            {"training": training, "unseen": unseen},
            {"first": Rows("training", np.arange(12)), "second": Rows("training", np.arange(12, 24))},
            {
                "retain": Rows("training", np.arange(24, 124)),
                "holdout": Rows("unseen", np.arange(40)),
                "validation": Rows("unseen", np.arange(40, 60)),
            },
        )
        sets, rest = ({n: parts[n] for n in names} for names in (parts.forget, parts.rest))
        changes = done(sets, rest, "move")
        changed = parts.changed(changes.keep, changes.add)
        assert changed.counts == {"first": 13, "second": 13, "retain": 98, "holdout": 39, "validation": 19}
        assert 24 + 7 in changed.rows["first"].indices


class TestDrop:
    def test_copies_are_in_no_part(self):
        changes = done(*situation(), "drop")
        assert changes.add == {}
        assert {n: len(kept) for n, kept in changes.keep.items()} == {"retain": 98, "holdout": 39, "validation": 19}


@pytest.mark.parametrize("action", ["move", "drop"])
@pytest.mark.parametrize("make", [situation, lambda: chain(5)])
def test_afterwards_no_clear_copy_is_left(action, make):
    forget, parts = make()
    changes = done(forget, parts, action)
    assert changes.found.clear
    forget, parts = after(forget, parts, changes)
    assert searched(forget, parts)[1].clear == ()


def test_keep_changes_nothing_and_says_so():
    changes = done(*situation(), "keep")
    assert (changes.keep, changes.add, changes.duplicates) == ({}, {}, "keep")
    assert len(changes.found.clear) == 4


def test_what_may_be_a_copy_stays():
    forget, parts = situation()
    spec = DuplicatesSpec(action="drop", near=("features",))
    found = search(forget, parts, spec, net())
    changes = act(parts, found, spec)
    assert {c.part for c in found.clear} == {"holdout"}  # the equal one
    assert set(changes.keep) == {"holdout"}


@pytest.mark.parametrize("action", ["move", "drop"])
def test_a_part_is_not_emptied(action):
    forget, parts = situation()
    parts["holdout"] = examples(PICTURES[3:5].flip(3))
    with pytest.raises(SplitError, match="All examples of the holdout set are copies"):
        done(forget, parts, action)


def test_the_record_is_plain():
    record = json.loads(json.dumps(done(*situation(), "move").describe(), allow_nan=False))
    assert record["action"] == "move"
    assert record["moved"] == {"first": 1, "second": 1}
    assert record["taken_out"] == {"retain": 0, "holdout": 1, "validation": 1}
    assert record["counts"]["retain"] == {"pixels": 2}
    assert (record["rounds"], record["settled"]) == (2, True)


class Augmented(Dataset):
    """Every look at an example is another: what a request must not be fooled by."""

    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        picture, label = self.data[i]
        return (picture.flip(2) if torch.rand(()) < 0.5 else picture), label


def test_data_that_changes_at_every_look():
    forget, parts = situation()
    parts = {name: Augmented(part) for name, part in parts.items()}
    _, found = searched(forget, parts)
    assert len(found.clear) == 4
