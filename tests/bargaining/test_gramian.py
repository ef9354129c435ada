"""The Gram matrix: right for every float type and layout, and made without copies of the model."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from amnesty.bargaining import gramian
from amnesty.bargaining.gramian import check_gramian
from amnesty.errors import InvalidInputError, ShapeError
from tests.bargaining.samples import generator

SHAPES = [(), (5,), (3, 4), (2, 3, 4, 5), (0,), (1, 7, 1)]


def reference(gradients):
    """The inner products of flattened float64 copies, by NumPy."""
    sizes = [max(0 if g is None else g.numel() for g in tensors) for tensors in zip(*gradients, strict=True)]

    def flatten(gradient):
        parts = zip(gradient, sizes, strict=True)
        return np.concatenate([np.zeros(n) if g is None else g.double().cpu().numpy().ravel() for g, n in parts])

    flat = np.stack([flatten(gradient) for gradient in gradients])
    return torch.from_numpy(flat @ flat.T)


def gradients_like(n, shapes, draw, dtype=torch.float32, device="cpu"):
    return [[torch.randn(s, generator=draw).to(device, dtype) for s in shapes] for _ in range(n)]


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_matches_the_flattened_model(n, dtype, device):
    gradients = gradients_like(n, SHAPES, generator(n), dtype, device)
    K = gramian(gradients)
    assert K.shape == (n, n)
    assert K.dtype == torch.float64
    assert K.device == gradients[0][0].device
    assert torch.equal(K, K.T)
    assert_close(K.cpu(), reference(gradients), rtol=1e-14 if dtype == torch.float64 else 1e-6, atol=1e-5)


@given(
    absent=st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=4), seed=st.integers(0, 99)
)
def test_parameters_that_a_player_does_not_touch_count_as_zeros(absent, seed):
    gradients = gradients_like(len(absent), SHAPES, generator(seed), torch.float64)
    gradients = [
        [None if gone else g for g, gone in zip(player, row, strict=True)]
        for player, row in zip(gradients, absent, strict=True)
    ]
    if all(all(row) for row in absent):
        with pytest.raises(ShapeError, match="no tensor"):
            gramian(gradients)
    else:
        assert_close(gramian(gradients), reference(gradients), rtol=1e-12, atol=1e-12)


def test_players_without_a_common_parameter_are_orthogonal():
    assert gramian([[torch.ones(2), None], [None, torch.ones(3)]]).tolist() == [[2.0, 0.0], [0.0, 3.0]]


LAYOUTS = {
    "contiguous": lambda g: g,
    "channels last": lambda g: g.to(memory_format=torch.channels_last),
    "transposed": lambda g: g.transpose(0, 3).contiguous().transpose(0, 3),
    "strided": lambda g: g.repeat_interleave(2, dim=3)[..., ::2],
    "expanded": lambda g: g[:1, :, :, :1].expand(g.shape),
    "flipped": lambda g: g.flip(0).transpose(1, 2).contiguous().transpose(1, 2).flip(0),
    "of size one": lambda g: g[:, :1].expand(g.shape),
}


@pytest.mark.parametrize("ours", LAYOUTS)
@pytest.mark.parametrize("theirs", LAYOUTS)
def test_every_pair_of_layouts(ours, theirs):
    a, b = (g[0] for g in gradients_like(2, [(4, 3, 2, 5)], generator(0), torch.float64))
    gradients = [[LAYOUTS[ours](a)], [LAYOUTS[theirs](b)]]
    assert_close(gramian(gradients), reference(gradients), rtol=1e-12, atol=1e-12)


def test_players_may_have_other_float_types():
    gradients = [[torch.full((3,), 0.1, dtype=dtype)] for dtype in (torch.float64, torch.float32, torch.bfloat16)]
    assert_close(gramian(gradients), reference(gradients), rtol=1e-7, atol=0)


def test_half_precision_neither_overflows_nor_vanishes():
    # In float16 the squares would be infinite (above 65504) or zero (below 6e-8).
    for size in (1e3, 1e-5):
        gradient = torch.full((100,), size, dtype=torch.float16)
        assert gramian([[gradient]]).item() == pytest.approx(100 * gradient[0].double().item() ** 2, rel=1e-5)


def test_large_tensors_keep_their_digits():
    # A single float32 sum of 5 million squares loses 1e-5, and 6e-4 where all are equal.
    for gradient in (torch.randn(5_000_000, generator=generator(0)), torch.full((5_000_000,), 0.1)):
        exact = gradient.double().square().sum().item()
        tolerance = 1e-6 if gradient.std() > 0.5 else 3e-5
        assert gramian([[gradient]]).item() == pytest.approx(exact, rel=tolerance)


def test_many_small_tensors_do_not_vanish_beside_a_large_one():
    # 10,000 + 1e-4 is 10,000 in float32.
    gradient = [torch.full((1,), 100.0), *[torch.full((1,), 0.01)] * 1000]
    assert gramian([gradient]).item() == pytest.approx(1e4 + 0.1, abs=1e-6)


def test_opposed_gradients_have_the_cosine_minus_one():
    gradient = [torch.randn(300_001, generator=generator(1)), torch.randn(7, 9, generator=generator(2))]
    K = gramian([gradient, [-g for g in gradient]])
    assert K[0, 1] == -K[0, 0] == -K[1, 1]


class Allocations(TorchDispatchMode):
    """Notes the bytes of every storage that an operation makes."""

    def __init__(self):
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for t in tree_leaves(result):
            if isinstance(t, torch.Tensor) and t.untyped_storage()._cdata not in given:
                self.largest = max(self.largest, t.untyped_storage().nbytes())
        return result


class TestMemory:
    SHAPES = ((64, 32, 3, 3), (64, 32, 5, 5), (1000,), (300, 400))

    def largest(self, change):
        gradients = [[change(g) for g in p] for p in gradients_like(3, self.SHAPES, generator(0))]
        with Allocations() as allocations:
            gramian(gradients)
        return allocations.largest

    def test_nothing_is_copied(self):
        assert self.largest(lambda g: g) < 1000

    def test_nothing_is_copied_of_channels_last_tensors(self):
        change = lambda g: g.to(memory_format=torch.channels_last) if g.dim() == 4 else g  # noqa: E731
        assert self.largest(change) < 1000

    def test_half_precision_is_widened_one_tensor_at_a_time(self):
        assert self.largest(torch.Tensor.bfloat16) == max(4 * torch.Size(s).numel() for s in self.SHAPES)


def test_leaves_no_graph_behind():
    gradient = torch.ones(3, requires_grad=True)
    assert not gramian([[gradient]]).requires_grad


def test_faults_show():
    K = gramian([[torch.tensor([1.0, torch.inf])], [torch.tensor([torch.nan, 0.0])], [torch.ones(2)]])
    assert K[0, 0] == torch.inf
    assert K[1].isnan().all()
    assert K[2, 2] == 2


@pytest.mark.parametrize(
    ("gradients", "message"),
    [
        ([], "`gradients` is empty"),
        ([[torch.ones(1)], [torch.ones(1), None]], r"different lengths \[1, 2\]"),
        ([[]], "no tensor"),
        ([[None], [None]], "no tensor"),
        ([[torch.ones(2, 3)], [torch.ones(3, 2)]], r"shape of parameter 0: found \[\(2, 3\), \(3, 2\)\]"),
        ([[torch.ones(1), torch.ones(1, dtype=torch.int64)]], "parameter 1 is .* torch.int64"),
        ([[torch.ones(1, dtype=torch.complex64)]], "torch.complex64"),
        ([[torch.eye(2).to_sparse()]], "sparse=False"),
    ],
)
def test_refuses_gradients(gradients, message):
    with pytest.raises(ShapeError, match=message):
        gramian(gradients)


class TestCheckGramian:
    @pytest.mark.parametrize(
        "wrong", [torch.ones(2), torch.ones(2, 3), torch.ones(2, 2, 2), torch.ones(0, 0)], ids=str
    )
    def test_refuses_other_shapes(self, wrong):
        with pytest.raises(ShapeError, match=r"shape \[n, n\]"):
            check_gramian(wrong)

    def test_refuses_other_numbers_of_players(self):
        check_gramian(torch.eye(2), players=2)
        with pytest.raises(ShapeError, match=r"shape \[2, 2\], .* has \[3, 3\]"):
            check_gramian(torch.eye(3), players=2)

    def test_refuses_integers(self):
        with pytest.raises(InvalidInputError, match="float type"):
            check_gramian(torch.eye(2, dtype=torch.int64))
