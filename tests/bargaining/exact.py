"""The bargaining problem in 60 decimal digits: slow, and written without a look at the library's solver."""

from collections.abc import Sequence

import mpmath as mp
from torch import Tensor

mp.mp.dps = 60


def residual(gramian: Tensor, weights: Tensor, power: Sequence[float]) -> float:
    """Return ``max_i |a_i (K a)_i - w_i|`` of float64 numbers, without any rounding of its own."""
    K, a = gramian.tolist(), [mp.mpf(x) for x in weights.tolist()]
    rows = [mp.fsum(mp.mpf(k) * x for k, x in zip(row, a, strict=True)) for row in K]
    return float(max(abs(x * row - w) for x, row, w in zip(a, rows, power, strict=True)))


def solve(gramian: Tensor, power: Sequence[float], give_up: float = 1e6) -> list[mp.mpf] | None:
    """Return the exact ``b_i = a_i |g_i|``, or ``None`` if ``max_i b_i / sqrt(w_i)`` passes ``give_up``.

    Newton's method on ``1/2 b'Cb - sum w log b``, damped as the theory of self-concordant functions asks.
    """
    n = len(power)
    K = mp.matrix(gramian.tolist())
    norms = [mp.sqrt(K[i, i]) for i in range(n)]
    C = mp.matrix(n, n)
    for i in range(n):
        for j in range(n):
            C[i, j] = K[i, j] / (norms[i] * norms[j])
    least = min(mp.mpf(w) for w in power)
    w = [mp.mpf(x) / least for x in power]
    b = mp.matrix([mp.sqrt(x) for x in w])
    for _ in range(1000):
        Cb = C * b
        downhill = mp.matrix([w[i] - b[i] * Cb[i] for i in range(n)])
        hessian = mp.matrix(n, n)
        for i in range(n):
            for j in range(n):
                hessian[i, j] = b[i] * b[j] * C[i, j]
            hessian[i, i] += w[i]
        step = mp.lu_solve(hessian, downhill)
        decrement = mp.sqrt(abs((step.T * downhill)[0]))
        damping = 1 / (1 + decrement) if decrement > 0.25 else 1
        b = mp.matrix([b[i] * (1 + damping * step[i]) for i in range(n)])
        if max(b[i] / mp.sqrt(w[i]) for i in range(n)) > give_up:
            return None
        if max(abs(x) for x in step) < mp.mpf(10) ** -40:
            return [x * mp.sqrt(least) for x in b]
    raise AssertionError("the exact solver did not converge")
