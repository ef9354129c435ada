"""Gradients to bargain over, as the rows of small float64 matrices."""

from collections.abc import Sequence

import torch
from hypothesis import strategies as st
from torch import Tensor


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gram(jacobian: Tensor) -> Tensor:
    """The Gram matrix, exactly symmetric."""
    K = jacobian @ jacobian.mT
    return (K + K.mT) / 2


def agreeing(n: int, seed: int = 0, cosine: float = -0.5, decades: float = 0.0) -> Tensor:
    """Return n gradients, shape [n, n + 1], that one direction helps, in a frame of reference drawn at random.

    The first two have the given ``cosine``; the norms spread over ``10**-decades`` to ``10**decades``.
    """
    draw = generator(seed)
    rows = torch.randn(n, n + 1, generator=draw, dtype=torch.float64)
    rows[:, 0] = rows[:, 0].abs() + 0.1
    rows /= rows.norm(dim=1, keepdim=True)
    if n > 1:
        lift = ((1 + cosine) / 2) ** 0.5
        rows[:2] = 0.0
        rows[:2, 0] = lift
        rows[0, 1], rows[1, 1] = (1 - lift**2) ** 0.5, -((1 - lift**2) ** 0.5)
    frame, _ = torch.linalg.qr(torch.randn(n + 1, n + 1, generator=draw, dtype=torch.float64))
    norms = 10 ** (decades * (2 * torch.rand(n, 1, generator=draw, dtype=torch.float64) - 1))
    return norms * (rows @ frame)


def random_power(n: int, seed: int) -> list[float]:
    """Return n bargaining powers from ``10**-1.5`` to ``10**1.5``."""
    return (10 ** (3 * torch.rand(n, generator=generator(seed + 1), dtype=torch.float64) - 1.5)).tolist()


@st.composite
def bargains(draw: st.DrawFn, most: int = 6) -> tuple[Tensor, list[float]]:
    """Draw (gradients, powers) of 2 to ``most`` players who can agree."""
    n = draw(st.integers(2, most))
    seed = draw(st.integers(0, 10_000))
    opposition = draw(st.floats(-3, 0.3))  # the decimal logarithm of 1 + cos
    decades = draw(st.sampled_from([0.0, 3.0, 12.0]))
    equal = draw(st.booleans())
    power = [1.0] * n if equal else random_power(n, seed)
    return agreeing(n, seed, min(10**opposition - 1, 1.0), decades), power


def direction(jacobian: Tensor, weights: Tensor) -> Tensor:
    """The update's unit vector."""
    update = weights.to(jacobian) @ jacobian
    return update / update.norm()


def circle(points: int = 100_000) -> Tensor:
    """Unit vectors of the plane, shape [2, points]."""
    angle = torch.linspace(0, 2 * torch.pi, points, dtype=torch.float64)
    return torch.stack([angle.cos(), angle.sin()])


def rows(*numbers: Sequence[float]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)
