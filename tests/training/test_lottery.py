"""That it trains, prunes, rewinds and trains again is tested with `OMP`, against a slow reference."""

import torch

from amnesty.tasks import Role, cross_entropy
from amnesty.training import Loop, Recipe
from amnesty.training.lottery import train_sparse
from tests import tiny
from tests.methods.nets import two_convs


def sparse(model, **given):
    loop = Loop(model, {}, seed=3, **given)
    names, recipe = ["0.weight", "3.weight"], Recipe(epochs=2, lr=0.05)
    role = Role("whole", cross_entropy)
    return train_sparse(loop, role, tiny.blobs(), recipe, names=names, sparsity=0.5, rewind=1)


def test_it_tells_what_is_left():
    model = two_convs()
    kept = sparse(model)
    assert kept.keys() == {"0.weight", "3.weight"}
    assert all(torch.equal(model.get_parameter(name) != 0, mask) for name, mask in kept.items())
    assert sum(int((~mask).sum()) for mask in kept.values()) == (36 + 216) // 2


def test_where_it_starts_does_not_matter_but_for_what_must_not_move():
    first, second = two_convs(), two_convs()
    second[3].weight.data.fill_(1.0)
    assert tiny.same(sparse(first), sparse(second)) and tiny.same(tiny.weights(first), tiny.weights(second))
    held = torch.zeros(6, 4, 3, 3, dtype=torch.bool)
    third = two_convs()
    kept = sparse(third, masks={"3.weight": held})
    assert torch.equal(third[3].weight, two_convs()[3].weight) and kept["3.weight"].all()
