import math

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close
from torch.utils.data import DataLoader

from amnesty.data import Examples
from amnesty.errors import InvalidInputError, ModelError, ShapeError, UnknownNameError
from amnesty.weights import fisher, inverse_fisher, inverse_fisher_product
from tests import tiny
from tests.weights import by_hand, zoo


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def dense(gradients, vector, damping):
    g = gradients.double()
    matrix = g.T @ g / len(g) + damping * torch.eye(g.shape[1], dtype=torch.float64)
    return torch.linalg.solve(matrix, vector.double())


def published(gradients, vector):
    """The recursion of WoodFisher unlearning as published: its second vector is only ever rescaled."""
    count, result, other = 1000, vector.clone(), gradients[0].clone()
    for g in gradients[1:]:
        product = other @ g
        result -= (result @ g) / (count + product) * other
        other -= product / (count + product) * other
    return result


class TestInverseFisher:
    @pytest.mark.parametrize("damping", [1e-6, 1e-3, 1.0, 1e3])
    @pytest.mark.parametrize(("n", "d"), [(40, 60), (1, 60), (60, 7), (5, 1)])
    def test_solves_the_dense_system(self, n, d, damping):
        g, v = random(n, d), random(d, seed=1)
        assert_close(inverse_fisher(g, v, damping), dense(g, v, damping), rtol=1e-6, atol=1e-9)

    def test_blocks_of_columns(self, monkeypatch):
        g, v = random(4, 23), random(23, seed=1)
        monkeypatch.setattr(fisher, "_BLOCK", 5)
        assert_close(inverse_fisher(g, v, 0.1), dense(g, v, 0.1))

    def test_single_precision_is_kept_and_loses_nothing_more(self):
        g, v = random(40, 60, dtype=torch.float32), random(60, seed=1, dtype=torch.float32)
        found = inverse_fisher(100 * g, v, 1e-3)
        assert found.dtype == torch.float32
        assert_close(found.double(), dense(100 * g, v, 1e-3), rtol=1e-5, atol=1e-4)

    def test_large_damping_divides(self):
        v = random(60)
        assert_close(inverse_fisher(random(40, 60), v, 1e9), v / 1e9, rtol=1e-6, atol=0)

    def test_is_no_multiple_of_the_first_gradient_as_published_code_has_it(self):
        g, v = random(40, 60), random(60, seed=1)

        def cosine(x):
            return F.cosine_similarity(x - v, g[0], dim=0).abs().item()

        assert cosine(published(g, v)) == pytest.approx(1.0, abs=1e-9)
        assert cosine(inverse_fisher(g, v, 1.0)) < 0.9

    def test_refuses(self):
        for g, v in ((random(3), random(3)), (random(2, 3), random(2)), (random(0, 3), random(3))):
            with pytest.raises(ShapeError, match=r"\[N, d\]"):
                inverse_fisher(g, v, 1.0)
        for damping in (0.0, -1.0, math.nan, math.inf):
            with pytest.raises(InvalidInputError, match="`damping`"):
                inverse_fisher(random(2, 3), random(3), damping)


def problem(make=tiny.mlp, count=20, seed=0):
    model, data = make(), zoo.examples(count)
    draws = torch.Generator().manual_seed(seed)
    v = {n: torch.randn(p.shape, generator=draws) for n, p in model.named_parameters() if p.requires_grad}
    return model, data, v


class TestProduct:
    @pytest.mark.parametrize("chunk", [1, 7, 32])
    @pytest.mark.parametrize("make", [tiny.mlp, tiny.conv_net, zoo.transformer])
    def test_solves_the_dense_system(self, make, chunk):
        model, data, v = problem(make, 8)
        with zoo.untouched(model):
            found = inverse_fisher_product(model, data, v, 0.01, chunk=chunk)
        g = torch.stack([by_hand.flat(one) for one in by_hand.gradients(model, data)])
        assert [found[n].shape for n in v] == [v[n].shape for n in v] and found.keys() == v.keys()
        assert_close(by_hand.flat(found), dense(g, by_hand.flat(v), 0.01), rtol=1e-3, atol=1e-2)

    def test_conjugate_gradients_agree(self, monkeypatch):
        model, data, v = problem(count=40)
        expected = inverse_fisher_product(model, data, v, 0.01)
        monkeypatch.setattr(fisher, "DIRECT", 39)
        monkeypatch.setattr(fisher, "_woodbury", None)
        with zoo.untouched(model):
            found = inverse_fisher_product(model, data, v, 0.01, chunk=16)
        error = (by_hand.flat(found) - by_hand.flat(expected)).norm() / by_hand.flat(expected).norm()
        assert error < 1e-4

    def test_beyond_256_examples(self):
        model, data, v = problem(count=300)
        found = inverse_fisher_product(model, data, v, 0.1, samples=300, chunk=100)
        g = torch.stack([by_hand.flat(one) for one in by_hand.gradients(model, data)])
        assert_close(by_hand.flat(found), dense(g, by_hand.flat(v), 0.1), rtol=1e-3, atol=1e-4)

    def test_conjugate_gradients_that_do_not_converge(self, monkeypatch):
        model, data, v = problem(count=40)
        monkeypatch.setattr(fisher, "DIRECT", 10)
        monkeypatch.setattr(fisher, "_ROUNDS", 3)
        with pytest.raises(InvalidInputError, match=r"did not converge in 3 rounds.*Raise `damping` \(1e-05\)"):
            inverse_fisher_product(model, data, v, 1e-5)

    @pytest.mark.parametrize("direct", [0, 256])
    def test_nothing_from_nothing(self, direct, monkeypatch):
        monkeypatch.setattr(fisher, "DIRECT", direct)
        model, data, v = problem()
        found = inverse_fisher_product(model, data, {n: torch.zeros_like(x) for n, x in v.items()}, 1.0)
        assert not by_hand.flat(found).any()

    def test_a_sample_is_drawn_by_the_seed(self):
        model, data, v = problem(count=40)
        drawn = [inverse_fisher_product(model, data, v, 0.1, samples=5, chunk=2, seed=seed) for seed in (0, 0, 1)]
        assert tiny.same(drawn[0], drawn[1]) and not tiny.same(drawn[0], drawn[2])
        # One example: the answer leaves v but for a multiple of that example's gradient.
        one = inverse_fisher_product(model, data, v, 1.0, samples=1)
        change = by_hand.flat(one) - by_hand.flat(v)
        each = torch.stack([by_hand.flat(g) for g in by_hand.gradients(model, data)])
        assert F.cosine_similarity(change[None], each).abs().max() > 0.999

    def test_of_a_loader_the_first(self):
        model, data, v = problem(count=40)
        found = inverse_fisher_product(model, DataLoader(data, batch_size=6), v, 0.1, samples=10, chunk=4)
        expected = inverse_fisher_product(model, Examples(data.images[:10], data.labels[:10]), v, 0.1)
        assert_close(by_hand.flat(found), by_hand.flat(expected), rtol=1e-4, atol=1e-4)

    def test_of_some_parameters(self):
        model, data, v = problem()
        part = {name: v[name] for name in ("3.bias", "1.bias")}
        found = inverse_fisher_product(model, data, part, 0.1)
        each = by_hand.gradients(model, data)
        g = torch.stack([torch.cat([one[name] for name in part]) for one in each])
        assert list(found) == list(part)
        assert_close(by_hand.flat(found), dense(g, by_hand.flat(part), 0.1), rtol=1e-4, atol=1e-4)

    def test_refuses(self):
        model, data, v = problem()
        with pytest.raises(UnknownNameError):
            inverse_fisher_product(model, data, {"nothing": torch.ones(1)}, 1.0)
        with pytest.raises(ShapeError, match=r"'3\.bias'"):
            inverse_fisher_product(model, data, {"3.bias": torch.ones(4)}, 1.0)
        with pytest.raises(InvalidInputError, match="`samples`"):
            inverse_fisher_product(model, data, v, 1.0, samples=0)
        for damping in (0.0, math.nan):
            with pytest.raises(InvalidInputError, match="`damping`"):
                inverse_fisher_product(model, data, v, damping)
        model[1].weight.requires_grad_(False)
        with pytest.raises(ShapeError, match=r"'1\.weight'"):
            inverse_fisher_product(model, data, v, 1.0)
        with pytest.raises(ModelError, match="None of 4"):
            inverse_fisher_product(model.requires_grad_(False), data, v, 1.0)
