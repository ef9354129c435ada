import copy
import itertools

import pytest
import torch
from torch import nn
from torch.utils.data import Subset

from amnesty import Recipe, train
from amnesty.data import Examples
from amnesty.errors import DataError, InvalidInputError, ModelError, NonFiniteError
from amnesty.training.stacked import equally_long, train_stacked
from tests import tiny

MEMBERS = [range(0, 40), range(20, 60), range(119, 79, -1), range(5, 72)]
SEEDS = [3, 4, 5, 6]


class Wrapped(nn.Module):
    """Answers with an object that has logits, and norms twice by one module, as shared layers do."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.head = nn.Linear(36, 3)

    def forward(self, x):
        return type("Output", (), {"logits": self.head(self.norm(self.norm(x)).flatten(1))})()


def norm_net():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    )


def group_net():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))


def stacked(model, data, recipe, members=MEMBERS, seeds=SEEDS, **other):
    return train_stacked(model, data.images, data.labels, members, recipe, seeds=seeds, **other)


def one_by_one(model, data, recipe):
    return [train(model, Subset(data, list(own)), recipe, seed=s) for own, s in zip(MEMBERS, SEEDS, strict=True)]


def distance(first, second):
    """The largest difference of two models' weights and buffers; infinity where these have other names."""
    mine, its = first.state_dict(), second.state_dict()
    assert mine.keys() == its.keys()
    return max(float((mine[name].double() - its[name].double()).abs().max()) for name in mine)


def double(data):
    return Examples(data.images.double(), data.labels)


RECIPES = [
    Recipe(epochs=3, batch_size=16, lr=0.05),
    Recipe(epochs=2, batch_size=9, lr=0.1, momentum=0.0, weight_decay=0.0, schedule="linear"),
    Recipe(epochs=1, batch_size=999, lr=0.1, schedule="constant", weight_decay=0.1),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=["cosine", "linear", "one step"])
@pytest.mark.parametrize("make", [norm_net, group_net, tiny.mlp, Wrapped])
def test_every_model_is_what_training_it_alone_gives(make, recipe):
    model, data = make().double(), double(tiny.blobs())
    before = copy.deepcopy(model)
    together, alone = stacked(model, data, recipe), one_by_one(model, data, recipe)
    for mine, its in zip(together, alone, strict=True):
        assert distance(mine, its) < 1e-9
    assert all(distance(a, b) > 1e-3 for a, b in itertools.combinations(together, 2))
    assert distance(model, before) == 0


def test_a_few_steps_in_float32_agree():
    model, data, recipe = norm_net(), tiny.blobs(), Recipe(epochs=2, batch_size=16, lr=0.05)
    for mine, its in zip(stacked(model, data, recipe), one_by_one(model, data, recipe), strict=True):
        assert distance(mine, its) < 1e-4


def test_running_statistics_follow_every_step():
    found = stacked(norm_net(), tiny.blobs(), Recipe(epochs=2, batch_size=16))
    assert [int(model[1].num_batches_tracked) for model in found] == [6, 6, 6, 10]
    assert not torch.equal(found[0][1].running_mean, found[1][1].running_mean)


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_how_many_train_at_once_does_not_matter(chunk):
    model, data, recipe = norm_net().double(), double(tiny.blobs()), Recipe(epochs=2, batch_size=16)
    for mine, its in zip(stacked(model, data, recipe), stacked(model, data, recipe, chunk=chunk), strict=True):
        assert distance(mine, its) < 1e-12


def test_neighbours_in_the_stack_do_not_matter():
    model, data, recipe = norm_net().double(), double(tiny.blobs()), Recipe(epochs=2, batch_size=16)
    with_others = stacked(model, data, recipe)[1]
    alone = stacked(model, data, recipe, members=[MEMBERS[1]], seeds=[SEEDS[1]])[0]
    assert distance(with_others, alone) < 1e-12


def test_the_callers_generators_and_modes_stay():
    state, model = torch.get_rng_state(), norm_net().train()
    state = torch.get_rng_state()
    found = stacked(model, tiny.blobs(), Recipe(epochs=1))
    assert torch.equal(torch.get_rng_state(), state) and model.training
    assert not any(one.training for one in found)
    assert all(p.requires_grad and p.grad is None and p.is_leaf for one in found for p in one.parameters())


def test_members_may_be_arrays_or_tensors():
    model, data, recipe = tiny.mlp(), tiny.blobs(), Recipe(epochs=1)
    kinds = [torch.tensor(list(own)) for own in MEMBERS], [torch.tensor(list(own)).numpy() for own in MEMBERS]
    for members in kinds:
        for mine, its in zip(stacked(model, data, recipe), stacked(model, data, recipe, members), strict=True):
            assert distance(mine, its) == 0


def test_groups_hold_every_model_once():
    lengths = [5, 4, 5, 5, 4, 5]
    groups = list(equally_long(lengths, 3))
    assert sorted(itertools.chain(*groups)) == list(range(6))
    assert all(len({lengths[k] for k in group}) == 1 and len(group) <= 3 for group in groups)


class TestRefusals:
    @pytest.mark.parametrize(
        ("members", "seeds", "chunk", "says"),
        [
            ([], [], 4, "one entry for each model, found 0 and 0"),
            ([range(4)], [0, 1], 4, "found 1 and 2"),
            ([range(4)], [0], 0, "`chunk` must be"),
            ([range(4), range(118, 121)], [0, 1], 4, r"`members\[1\]` must be in \[0, 120\), found 118 to 120"),
            ([[-1, 2]], [0], 4, "found -1 to 2"),
            ([[]], [0], 4, "must be indices"),
            ([[True, False]], [0], 4, "must be indices, .* torch.bool"),
            ([[0.0, 1.0]], [0], 4, "must be indices"),
        ],
    )
    def test_arguments(self, members, seeds, chunk, says):
        with pytest.raises(InvalidInputError, match=says):
            stacked(tiny.mlp(), tiny.blobs(), Recipe(epochs=1), members, seeds, chunk=chunk)

    def test_dropout_whose_draws_would_depend_on_the_others(self):
        with pytest.raises(ModelError, match="cannot be trained in a stack"):
            stacked(tiny.conv_net(), tiny.blobs(), Recipe(epochs=1))

    def test_labels_outside_the_classes(self):
        data = tiny.blobs()
        with pytest.raises(DataError, match="outside the model's 3 classes"):
            stacked(tiny.mlp(), Examples(data.images, data.labels + 1), Recipe(epochs=1))

    def test_pixels_that_are_no_numbers(self):
        data = tiny.blobs()
        data.images[3] = torch.nan
        with pytest.raises(DataError, match="Example 3 of the training set holds NaN"):
            stacked(tiny.mlp(), data, Recipe(epochs=1))

    def test_a_model_that_diverges_is_named(self):
        data = tiny.blobs()
        data.images[100] = 1e30
        with pytest.raises(NonFiniteError, match="Weights of model 2 are not finite after epoch 1"):
            stacked(nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), data, Recipe(epochs=1, lr=1e9, batch_size=8))


@pytest.mark.gpu
def test_on_an_accelerator_it_agrees_with_the_host():
    model, data, recipe = norm_net().double(), double(tiny.blobs()), Recipe(epochs=2, batch_size=16)
    there, here = stacked(model, data, recipe, device="cuda"), stacked(model, data, recipe)
    for mine, its in zip(there, here, strict=True):
        assert distance(mine, its) < 1e-9
