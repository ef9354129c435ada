"""The Nash bargaining solution of n gradients, exact and free of scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from amnesty.bargaining.gramian import check_gramian
from amnesty.bargaining.rules import WHEN_STATIONARY, WhenStationary, per_player
from amnesty.errors import InvalidInputError

Length = Literal["unit", "nash", "fading"]

# On a CPU the search ends when it has converged, after 6 rounds on average and 17 at most in 3,000 hard
# cases; elsewhere all rounds run. Newton's method being quadratic, a last step below 1e-8 leaves no error.
_ROUNDS = 24
_CONVERGED = 1e-8
_SOLVED = 1e-3  # relative; of b * (C b) = w, rounding alone leaves up to 1e-4 at the highest threshold


@dataclass(frozen=True)
class Nash:
    """Every player gains, and none wins by the mere length of its gradient.

    Maximises ``sum_i w_i log <g_i, d>`` over directions ``d`` of bounded length. The optimum is
    ``d = sum_i a_i g_i`` where ``K a = w / a`` elementwise, K being the Gram matrix. In cosines
    ``C_ij = K_ij / (|g_i| |g_j|)`` and unknowns ``b_i = a_i |g_i|`` this is ``b * (C b) = w``, which
    contains no length of any gradient; it is the stationarity condition of the strictly convex
    ``1/2 b'Cb - sum_i w_i log b_i`` and is found by Newton's method. For two players of equal power the
    first guess is already the closed form ``a_i = 1 / (|g_i| sqrt(1 + cos))``.

    A player with a zero gradient abstains (weight 0) and the others bargain. Where the gradients are
    (nearly) opposed, ``max_i b_i / sqrt(w_i) > threshold``, no direction helps everybody: all weights are
    0, and `Bargain` does what ``when_stationary`` says. NaN in K gives NaN weights.

    Args:
        power: bargaining powers ``w_i > 0`` in the players' order; ``None`` means 1 for each. A player
            of power 2 counts like two players with the same gradient.
        length: of the update. ``"unit"``: 1, the step of the published method, whose norm clip always
            fires. ``"nash"``: ``sqrt(sum w)``, the solution as it is. ``"fading"``:
            ``sqrt(sum w) / max_i b_i``, which falls to 0 where no direction helps everybody.
        when_stationary: ``"retain"``: only the retaining players move; ``"skip"``: nobody moves;
            ``"noise"``: a random direction of length 1 (remark 2.7 of the paper).
        threshold: for two players of power 1, ``1e3`` means ``1 + cos < 1e-6``.

    Raises:
        InvalidInputError: a power is not positive and finite, the threshold is not in (1, 1e5];
            unknown ``length`` or ``when_stationary``.

    Source: Wu & Harandi, MUNBa, ICCV 2025, arXiv:2411.15537, Eq. 8 (two players) and Section 2; Nash 1950.
    Differs from the published code, whose absolute epsilons change the answer when gradients are short and
    whose division by ``cos`` fails where it vanishes (`PublishedNash` reproduces it).

    Example:
        >>> Nash()(torch.tensor([[4.0, 0.0], [0.0, 1.0]]))
        tensor([0.3536, 0.7071], dtype=torch.float64)
    """

    power: Sequence[float] | None = None
    length: Length = "unit"
    when_stationary: WhenStationary = "retain"
    threshold: float = 1e3

    def __post_init__(self) -> None:
        for name, found, known in (
            ("length", self.length, get_args(Length)),
            ("when_stationary", self.when_stationary, WHEN_STATIONARY),
        ):
            if found not in known:
                raise InvalidInputError(f"`{name}` must be one of {', '.join(known)}, found {found!r}.")
        if self.power is not None and not all(0 < w < math.inf for w in self.power):
            raise InvalidInputError(f"`power` must hold positive finite numbers, found {list(self.power)}.")
        # Beyond 1e5, float64 cannot tell opposed gradients from nearly opposed ones.
        if not 1 < self.threshold <= 1e5:
            raise InvalidInputError(f"`threshold` must be above 1 and at most 1e5, found {self.threshold}.")

    def __call__(self, gramian: Tensor) -> Tensor:
        """Map ``gramian``, shape [n, n], to the weights ``a``, shape [n], float64.

        Raises:
            ShapeError: ``gramian`` is not a square float matrix, or ``power`` has another length.
        """
        check_gramian(gramian)
        gramian = gramian.to(torch.float64)
        norms = gramian.diagonal().sqrt()
        active = norms != 0
        power = torch.where(active, per_player(self.power, gramian, "power"), 1.0)
        cosine = cosines(gramian)
        if self.power is None and len(cosine) == 2:  # the closed form; opposed gradients land beyond any threshold
            bargain = (1 + cosine[0, 1]).clamp(min=1e-14).rsqrt().expand(2)
        else:
            bargain = bargain_of(cosine, power, self.threshold)
        # Near the threshold rounding may have made K indefinite, and the search fail: no agreement either.
        solved = (bargain * (cosine @ bargain) - power).abs() <= _SOLVED * power
        agreed = (solved & (bargain <= power.sqrt() * self.threshold)).all()
        scale = self._scale(bargain, power, active)  # infinite where all are absent
        weights = torch.where(active & agreed, bargain / norms * scale, 0.0)
        return torch.where(gramian.isfinite().all(), weights, torch.nan)

    def _scale(self, bargain: Tensor, power: Tensor, active: Tensor) -> Tensor | float:
        # The exact solution has |d|^2 = sum_i a_i (K a)_i = sum_i w_i over the players that take part.
        if self.length == "unit":
            return torch.where(active, power, 0.0).sum().rsqrt()
        if self.length == "fading":
            return torch.where(active, bargain, 0.0).amax().reciprocal()
        return 1.0


def cosines(gramian: Tensor) -> Tensor:
    """Return the cosines of the gradients, shape [n, n]: 1 on the diagonal, 0 beside a zero gradient."""
    norms = gramian.diagonal().sqrt()
    norms = torch.where(norms == 0, 1.0, norms)
    # Divided by one norm after the other: their product may leave the range of float64.
    cosine = (gramian / norms[:, None] / norms).clamp_(-1.0, 1.0)
    cosine.diagonal().fill_(1.0)
    return cosine


def bargain_of(cosine: Tensor, power: Tensor, threshold: float) -> Tensor:
    """Solve ``b * (C b) = w`` for ``b > 0``, shape [n]; grows beyond ``threshold`` where no solution exists.

    ``cosine`` is C, shape [n, n], positive semidefinite with unit diagonal; ``power`` is w, shape [n].
    Newton's method on ``1/2 b'Cb - sum w log b``, in relative steps of at most a factor e.
    """
    # Scaled to min w = 1, the powers outweigh what rounding may take from C's smallest eigenvalue.
    unit = power.amin()
    power = power / unit
    n = cosine.shape[0]
    b = _start_two(cosine[0, 1], power) if n == 2 else _start(cosine, power)
    # Beyond this there is no solution to find, and the matrix would become singular.
    limit = power.sqrt() * (threshold * 10)
    eager = b.device.type == "cpu"  # elsewhere a question would make the host wait
    for _ in range(1 if n <= 2 else _ROUNDS):
        step = _newton_step(cosine, power, b)
        b = torch.minimum(b * step.exp(), limit)
        if eager and not torch.linalg.vector_norm(step).item() > _CONVERGED:
            break
    return b * unit.sqrt()


def _start(cosine: Tensor, power: Tensor) -> Tensor:
    # The best multiple of sqrt(w), which solves the problem when all cosines are equal and so are the powers.
    b = power.sqrt()
    return b * (power.sum() / (b @ cosine @ b).clamp(min=1e-12)).sqrt()


def _start_two(cosine: Tensor, power: Tensor) -> Tensor:
    # p = b_1 b_2 solves p^2 (1 - c^2) + c p (w_1 + w_2) = w_1 w_2, and b_i^2 = w_i - c p. Both roots are
    # written without a difference of near equals for their sign of c.
    c = cosine.clamp(min=-1 + 1e-14)
    total, product = power.sum(), power.prod()
    root = ((c * (power[0] - power[1])).square() + 4 * product).sqrt()
    agreeing = 2 * product / (c.clamp(min=0.0) * total + root)
    opposing = (root - c * total) / (2 * (1 - c).clamp(min=0.5) * (1 + c))
    p = torch.where(c >= 0, agreeing, opposing)
    return (power - c * p).clamp(min=1e-300).sqrt()


def _newton_step(cosine: Tensor, power: Tensor, b: Tensor) -> Tensor:
    """Return the change of ``log b``, shape [n], of one Newton step, limited to 1."""
    residual = torch.addcmul(power, b, cosine @ b, value=-1.0)
    hessian = b.outer(b) * cosine
    hessian.diagonal().add_(power)
    factor, _ = torch.linalg.cholesky_ex(hessian)
    return torch.cholesky_solve(residual[:, None], factor)[:, 0].clamp(-1.0, 1.0)
