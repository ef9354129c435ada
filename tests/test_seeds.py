import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from amnesty.seeds import derive, generator, seeded


@given(st.integers(), st.lists(st.text()))
def test_a_derived_seed_fits_every_generator(seed, names):
    found = derive(seed, *names)
    assert 0 <= found < 2**63
    torch.Generator().manual_seed(found)


def test_a_derived_seed_is_the_same_on_every_machine():
    assert derive(7, "order", "retain", 1) == 3939860777473608671


def test_uses_differ():
    assert len({derive(s, *n) for s in range(10) for n in [(), ("a",), ("b",), ("a", 1), ("a", 2)]}) == 50


def test_a_generator_leaves_the_global_one_alone():
    before = torch.get_rng_state()
    a, b, c = (torch.rand(5, generator=generator(0, name)) for name in ("x", "x", "y"))
    assert a.equal(b)
    assert not a.equal(c)
    assert torch.get_rng_state().equal(before)


class TestSeeded:
    def test_noise_follows_the_seed(self, device):
        drawn = []
        for seed in (0, 0, 1):
            with seeded(seed, device):
                drawn.append((torch.rand(5), torch.rand(5, device=device)))
        assert drawn[0][0].equal(drawn[1][0])
        assert drawn[0][1].equal(drawn[1][1])
        assert not drawn[0][0].equal(drawn[2][0])
        assert not drawn[0][1].equal(drawn[2][1])

    def test_the_caller_gets_his_generator_back(self, device):
        before = torch.get_rng_state()
        with seeded(0, device):
            torch.rand(5)
        assert torch.get_rng_state().equal(before)

    def test_numpy_and_the_standard_library_follow_it_too_and_are_given_back(self, device):
        def draw():
            return random.random(), float(np.random.rand()), random.gauss(0, 1), float(np.random.randn())

        random.gauss(0, 1), np.random.randn()  # both keep a second number for later
        kept = random.getstate(), str(np.random.get_state())
        drawn = []
        for seed in (0, 0, 1):
            with seeded(seed, device):
                drawn.append(draw())
        assert drawn[0] == drawn[1] and all(a != b for a, b in zip(drawn[0], drawn[2], strict=True))
        with pytest.raises(ZeroDivisionError), seeded(0, device):
            random.seed(int(draw()[0]) / 0)
        assert (random.getstate(), str(np.random.get_state())) == kept

    def test_one_in_another_gives_the_outer_its_place_back(self, device):
        drawn = []
        for inner in (False, True):
            with seeded(0, device):
                first = np.random.rand(), random.random(), torch.rand(1).item()
                if inner:
                    with seeded(5, device):
                        np.random.rand(), random.random(), torch.rand(1)
                drawn.append((first, np.random.rand(), random.random(), torch.rand(1).item()))
        assert drawn[0] == drawn[1]

    def test_even_after_an_error(self, device):
        before = torch.get_rng_state()
        with pytest.raises(ZeroDivisionError), seeded(0, device):
            torch.rand(int(1 / 0))
        assert torch.get_rng_state().equal(before)

    @pytest.mark.gpu
    @pytest.mark.parametrize("used", ["cpu", "cuda", "cuda:0"])
    def test_the_generator_of_every_device_is_given_back(self, used):
        before = torch.cuda.get_rng_state()
        with seeded(0, torch.device(used)):
            torch.rand(5, device=used)
        assert torch.cuda.get_rng_state().equal(before)
