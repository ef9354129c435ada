import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from amnesty.bargaining.gem import gem_dual
from amnesty.errors import InvalidInputError, PrecisionError, ShapeError

EPSILON = 1e-3


def memories(t: int, d: int, seed: int, likeness: float = 0.0, length: float = 1.0):
    """t memories that share a direction, and a gradient: shapes [t, d] and [d]."""
    draw = torch.Generator().manual_seed(seed)
    common = torch.randn(d, generator=draw, dtype=torch.float64)
    own = torch.randn(t, d, generator=draw, dtype=torch.float64)
    g = torch.randn(d, generator=draw, dtype=torch.float64) - likeness * common
    return length * (likeness * common + (1 - likeness) * own), g


problems = st.builds(
    memories,
    st.integers(1, 64),
    st.integers(1, 100),
    st.integers(0, 10_000),
    st.sampled_from([0.0, 0.5, 0.99, 1.0]),
    st.sampled_from([1e-3, 1.0, 100.0]),
)


@given(problems, st.sampled_from([0.0, 0.5, 3.0]))
def test_conditions_of_the_optimum(problem, margin):
    # Acceptance test 8: after the projection no memory is worked against by more than epsilon times its weight.
    m, g = problem
    v = gem_dual(m @ m.T, m @ g, margin)
    slope = m @ (g + v @ m) + EPSILON * v
    scale = (m @ m.T).abs() @ v + (m @ g).abs() + EPSILON * v
    assert (v >= margin).all()
    assert (slope >= -1e-8 * scale).all()
    assert (slope.abs() <= 1e-8 * scale)[v > margin].all()


@given(problems, st.sampled_from([0.0, 0.5]))
def test_matches_a_package(problem, margin):
    qpsolvers = pytest.importorskip("qpsolvers")
    m, g = problem
    p, q = m @ m.T + EPSILON * torch.eye(len(m), dtype=torch.float64), m @ g
    expected = torch.from_numpy(
        qpsolvers.solve_qp(p.numpy(), q.numpy(), lb=np.full(len(m), margin), solver="quadprog")
    )
    found = gem_dual(m @ m.T, q, margin)

    def value(v):
        return v @ p @ v / 2 + q @ v

    scale = (value(expected).abs() + 1).item()
    assert value(found) <= value(expected) + 1e-9 * scale
    assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(1 + expected.abs().max()))


def test_one_memory_has_the_closed_form():
    for product in (-3.0, -0.1, 0.0, 2.0):
        found = gem_dual(torch.tensor([[2.0]]), torch.tensor([product]), margin=0.5)
        assert found.item() == pytest.approx(max(0.5, -product / (2.0 + EPSILON)))


def test_bounds_hold_where_no_memory_is_worked_against():
    m, _ = memories(5, 20, seed=0)
    m = torch.linalg.qr(m.T).Q.T
    assert gem_dual(m @ m.T, m @ m.sum(0), margin=0.5).tolist() == [0.5] * 5
    assert gem_dual(m @ m.T, torch.zeros(5), margin=0.0).tolist() == [0.0] * 5


def test_equal_memories_share():
    m, g = memories(1, 20, seed=1)
    g = -m[0] + 0.1 * g
    m = m.expand(10, -1)
    v = gem_dual(m @ m.T, m @ g, margin=0.0)
    assert_close(v, v[:1].expand(10)) and v[0] > 0


def test_the_order_does_not_matter():
    m, g = memories(30, 20, seed=2, likeness=0.5)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    v = gem_dual(m @ m.T, m @ g, 0.5)
    shuffled = gem_dual(m[order] @ m[order].T, m[order] @ g, 0.5)
    assert_close(shuffled, v[order], rtol=1e-6, atol=1e-6)


def test_takes_single_precision_and_does_not_change_its_input():
    m, g = memories(4, 20, seed=3)
    gramian, products = (m @ m.T).float(), (m @ g).float()
    kept = gramian.clone(), products.clone()
    found = gem_dual(gramian, products, 0.5)
    assert found.dtype == torch.float64
    assert_close(found, gem_dual(m @ m.T, m @ g, 0.5), rtol=1e-3, atol=1e-4)
    assert torch.equal(gramian, kept[0]) and torch.equal(products, kept[1])


@pytest.mark.parametrize("fault", [math.nan, math.inf])
def test_faults_show_in_every_weight(fault):
    assert gem_dual(torch.tensor([[1.0, 0.0], [0.0, fault]]), torch.zeros(2), 0.5).isnan().all()
    assert gem_dual(torch.eye(2), torch.tensor([0.0, fault]), 0.5).isnan().all()


def test_refuses():
    with pytest.raises(ShapeError):
        gem_dual(torch.zeros(2, 3), torch.zeros(2), 0.5)
    with pytest.raises(ShapeError, match=r"`products` must have shape \[2\].*\[3\]"):
        gem_dual(torch.eye(2), torch.zeros(3), 0.5)
    for margin, epsilon in ((-0.1, 1e-3), (math.nan, 1e-3), (0.5, 0.0), (0.5, math.inf)):
        with pytest.raises(InvalidInputError, match="`margin`.*`epsilon`"):
            gem_dual(torch.eye(2), torch.zeros(2), margin, epsilon)
    with pytest.raises(PrecisionError, match="2 memories .* not positive semidefinite"):
        gem_dual(-torch.eye(2), torch.full((2,), -9.0), 0.5)
