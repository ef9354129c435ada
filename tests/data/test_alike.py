import numpy as np
import pytest
import torch

from amnesty.data.alike import Coordinates, Limits, Vectors, directions, find_limits
from amnesty.errors import DataError


def normal(count, mean, deviation, seed=0):
    return torch.tanh(mean + deviation * torch.randn(count, generator=torch.Generator().manual_seed(seed)))


class TestLimits:
    def test_are_never_low(self):
        limits = find_limits(normal(2000, 0.2, 0.1))
        assert (limits.clear, limits.possible, limits.compared) == (0.9, 0.8, 2000)

    def test_rise_where_everything_is_alike(self):
        limits = find_limits(normal(20_000, 1.7, 0.2))
        assert limits.clear == pytest.approx(np.tanh(1.7 + 5 * 0.2), abs=1e-3)
        assert limits.possible == pytest.approx(np.tanh(1.7 + 4 * 0.2), abs=1e-3)

    def test_hardly_move_for_copies(self):
        usual = normal(4000, 1.7, 0.2)
        copied = usual.clone()
        copied[:400] = 0.9999
        assert find_limits(copied).clear - find_limits(usual).clear < 0.005

    def test_are_those_of_related_examples_where_these_are_more_alike(self):
        both, related = torch.cat([normal(3000, 0.5, 0.2), normal(300, 1.7, 0.2)]), torch.arange(3300) >= 3000
        assert find_limits(both, related) == find_limits(both[3000:])
        assert find_limits(both, ~related) == find_limits(both)
        assert find_limits(both[:3000], related[:3000]) == find_limits(both[:3000])  # none of them

    def test_are_higher_where_little_is_known(self):
        many = normal(2000, 1.0, 0.2)
        few, enough = find_limits(many[:150]), find_limits(many)
        assert few.clear > enough.clear and few.possible > enough.possible

    def test_are_fixed_ones_for_a_handful(self):
        assert find_limits(torch.full((29,), 0.999)) == Limits(0.9, 0.8, 0)

    def test_take_what_is_equal(self):
        assert find_limits(torch.ones(100)).clear == pytest.approx(1)


class TestVectors:
    def test_likeness_is_that_of_the_formula(self):
        draw = torch.Generator().manual_seed(0)
        searched, given = torch.randn(7, 5, generator=draw), torch.randn(11, 5, generator=draw)
        index, likeness = Vectors(searched).nearest(given)
        for k, vector in enumerate(given):
            all_of_them = [float(2 * vector @ s / (vector @ vector + s @ s)) for s in searched]
            assert index[k] == np.argmax(all_of_them)
            assert likeness[k] == pytest.approx(max(all_of_them), abs=1e-6)

    def test_only_what_is_equal_has_likeness_1(self):
        _, likeness = Vectors(torch.tensor([[1.0, 1.0]])).nearest(torch.tensor([[1.0, 1.0], [2.0, 2.0]]))
        assert likeness[0] == 1
        assert likeness[1] == pytest.approx(0.8)

    def test_nothing_is_like_nothing(self):
        assert Vectors(torch.zeros(2, 3)).nearest(torch.zeros(1, 3))[1].tolist() == [-1]

    def test_other_lengths_are_refused(self):
        with pytest.raises(DataError, match="3 and 4 numbers"):
            Vectors(torch.zeros(2, 3)).nearest(torch.zeros(1, 4))


class TestCoordinates:
    def test_units_do_not_matter(self):
        data = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
        scaled = data * torch.tensor([1.0, 1e4, 1e-4, 3.0]) + torch.tensor([0.0, 7e4, 1.0, -2.0])
        plain, other = Coordinates(data.split(7)).of(data), Coordinates(scaled.split(20)).of(scaled)
        torch.testing.assert_close(plain, other, atol=1e-2, rtol=1e-2)

    def test_constant_columns_say_nothing(self):
        data = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
        data[:, 1] = 1e6
        assert (Coordinates([data]).of(data)[:, 1] == 0).all()

    def test_long_vectors_stay_as_alike_as_they_were(self):
        draw = torch.Generator().manual_seed(0)
        data = torch.randn(40, 3, 2000, generator=draw)
        near = data + 0.2 * torch.randn(40, 3, 2000, generator=draw)
        coordinates = Coordinates([data])
        assert coordinates.of(data).shape == (40, 1024)
        index, likeness = Vectors(coordinates.of(data)).nearest(coordinates.of(near))
        assert index.tolist() == list(range(40))
        exactly = 2 * (data * near).sum((1, 2)) / (data.square() + near.square()).sum((1, 2))
        torch.testing.assert_close(likeness, exactly, atol=5e-3, rtol=0)

    def test_other_lengths_are_refused(self):
        with pytest.raises(DataError, match="3 and 4 numbers"):
            Coordinates([torch.zeros(2, 3), torch.zeros(2, 4)])


def test_directions_have_length_1():
    found = directions(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).bfloat16())
    torch.testing.assert_close(found.norm(dim=1), torch.ones(5))
