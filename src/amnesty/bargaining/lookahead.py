"""Lookahead players: the gradient of a loss at the point where another player's step would lead."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from amnesty.errors import InvalidInputError

CurvatureKind = Literal["exact", "finite-difference", "none"]
"""How a lookahead player multiplies with the Hessian; see `Lookahead`."""

Kinks = Literal["refuse", "warn"]
"""What becomes of finite differences on kinked functions; see `Lookahead`."""


@dataclass(frozen=True)
class Lookahead:
    """A player's gradient at the point where another player's step would lead; see `Bargain`.

    With the player's loss ``L``, the loss ``M`` of the inner player on its batch of this step, the Hessian ``H``
    of ``M``, and the projection ``P`` onto what the masks let move::

        v = grad L(theta - s P grad M(theta))
        d = P v - s P H(theta) P v

    ``d`` is the gradient of ``theta -> L(theta - s P grad M(theta))``, which is ``L - s <grad L, P grad M>`` up to
    order ``s^2``: a pull towards weights where a step that helps one player helps the other. The inner player
    has its turn first, plainly, and its gradient is computed once for both. The loss recorded for the looking
    player is that at the shifted weights. Beyond ``s = 1 / lambda_max(H)`` the term ``s H v`` may outweigh
    ``v``; `Agreement.curvature` tells.

    ``curvature`` says where ``H v`` comes from:

    - ``"exact"``: the inner gradient is differentiated once more. Its graph, several times that of a plain loss,
      lives until then. Attention runs in kernels with a second derivative; code compiled by `torch.compile` and
      cuDNN's recurrent layers have none. Hooks of sharded wrappers (DDP, FSDP) do not see these passes.
    - ``"finite-difference"``: ``(grad M(theta + e v) - grad M(theta)) / e`` with ``e = difference |theta| / |v|``,
      from one more evaluation of the inner player with the same random state (of torch; a generator of your own is
      not rewound) and the same buffers. **Only for smooth networks**: where slopes jump, as in ReLU and max
      pooling, the jumps add an error that grows like ``e^(-1/2)``. Such functions are looked for in the graph of
      the inner loss, at its first step. Compiled code and autograd functions of your own are opaque, and there
      only the error estimate speaks, ``|Hv_2e - Hv_e| / |Hv_e|``: taken at the first step and every
      ``check_every``-th, for one more evaluation and a wait for the device. Above 0.1 it warns, once.
    - ``"none"``: ``d = P v``, first order. Not equivalent: of the regulariser's gradient,
      ``-s (H_L grad M + H grad L)``, it keeps the first half.

    Args:
        step: ``s``, the inner step's length factor, like a learning rate.
        after: name of the player whose plain gradient step is looked past.
        curvature: see above.
        kinks: what to do about kinked functions behind finite differences: raise, or warn once and go on.
        difference: length of the finite difference's displacement, relative to that of the weights. ``None``
            follows the weights' precision: a third of its root, 1e-4 for float32 and 5e-9 for float64.
        check_every: steps from one error estimate to the next.

    Raises:
        InvalidInputError: a setting is unknown or out of range.

    Source: Patel & Qiu, Learning to Unlearn while Retaining (LUR), ICCV 2025, arXiv:2503.06339: a forgetting player
    that looks past the retaining one, under the rule `Sum`. Here any player may, under any rule.

    Example:
        >>> import torch
        >>> from amnesty.bargaining import Bargain, Sum
        >>> theta = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> bargain = Bargain([theta], rule=Sum(), lookahead={"forget": Lookahead(step=0.1)})
        >>> agreement = bargain.backward(forget=lambda: -theta.sum(), retain=lambda: (theta**2).sum())
        >>> theta.grad  # 2 theta - (1 - 0.1 * 2)
        tensor([1.2000, 3.2000])
    """

    step: float
    after: str = "retain"
    curvature: CurvatureKind = "exact"
    kinks: Kinks = "refuse"
    difference: float | None = None
    check_every: int = 50

    def __post_init__(self) -> None:
        faults = []
        if not 0 < self.step < math.inf:
            faults.append(f"`step` must be positive and finite, found {self.step}")
        for name, found, known in (
            ("curvature", self.curvature, get_args(CurvatureKind)),
            ("kinks", self.kinks, get_args(Kinks)),
        ):
            if found not in known:
                faults.append(f"`{name}` must be one of {', '.join(known)}, found {found!r}")
        if self.difference is not None and not 0 < self.difference < math.inf:
            faults.append(f"`difference` must be positive and finite, found {self.difference}")
        if self.check_every < 1:
            faults.append(f"`check_every` must be at least 1, found {self.check_every}")
        if faults:
            raise InvalidInputError(f"{'; '.join(faults)}.")
