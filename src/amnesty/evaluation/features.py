"""What an attacker reads from a model's answer to one example: six numbers, exact where the model is very sure.

All of them are taken from logits in float64. A softmax in float32 rounds a confidence to 1 beyond a margin of about
16.6, and from there on the examples that a model knows best could no longer be told apart.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from amnesty.errors import DataError, ShapeError
from amnesty.tasks.margins import margins as _margins

FEATURES = ("correctness", "confidence", "entropy", "modified_entropy", "margin")
"""The keys of `features`."""

CHUNK = 2**21
"""Logits that are worked on at a time: 16 MB in float64, of which a few copies live at once."""


def margins(logits: Tensor, labels: Tensor) -> np.ndarray:
    """Return the log-odds of each label, ``z_y - logsumexp_{j != y} z_j``, shape [n], float64.

    Any real number; higher: the model is surer of the label. See `amnesty.tasks.margins.margins`.

    Args:
        logits: shape [n, C], C at least 2, finite.
        labels: shape [n], from 0 to C - 1.

    Raises:
        ShapeError: other shapes, or a single class.
        DataError: a label out of range, or logits that are not finite.

    >>> margins(torch.tensor([[0.0, 0.0], [50.0, 0.0]]), torch.tensor([0, 1]))
    array([  0., -50.])
    """
    return _join([_margins(z, y) for z, y in _chunks(logits, labels)])


def confidence(logits: Tensor, labels: Tensor) -> np.ndarray:
    """Return the probability ``p_y`` that the model gives each label, in [0, 1], shape [n]; as `margins` otherwise.

    It rounds to 1 beyond a margin of 37: to rank examples, take `margins`.
    """
    return _join([_margins(z, y).sigmoid() for z, y in _chunks(logits, labels)])


def cross_entropy(logits: Tensor, labels: Tensor) -> np.ndarray:
    """Return the loss ``-log p_y = softplus(-margin)``, at least 0, in nats, shape [n]; as `margins` otherwise."""
    return _join([_softplus(-_margins(z, y)) for z, y in _chunks(logits, labels)])


def entropy(logits: Tensor) -> np.ndarray:
    """Return ``-sum_j p_j log p_j`` of each answer, from 0 (sure) to log C (unsure), in nats, shape [n].

    Raises:
        ShapeError, DataError: as `margins`.
    """
    no_matter = torch.zeros(len(logits), dtype=torch.int64)
    return _join([_entropies(z, y)[0] for z, y in _chunks(logits, no_matter)])


def modified_entropy(logits: Tensor, labels: Tensor) -> np.ndarray:
    """Return ``-(1 - p_y) log p_y - sum_{j != y} p_j log(1 - p_j)``, at least 0, in nats, shape [n].

    0: sure of the label. Large: sure of another class, where the entropy would be 0 too. Inputs and errors as
    `margins`.

    Source: Song and Mittal, Systematic evaluation of privacy risks of machine learning models, USENIX Security
    2021, section 4.2. Differs from the code of several unlearning papers, which takes log p for log(1 - p) and
    treats every class that occurs among the labels as the label; see `amnesty.evaluation.compat` for that.

    >>> modified_entropy(torch.tensor([[100.0, 0.0], [100.0, 0.0]]), torch.tensor([0, 1])).round(6)
    array([  0., 200.])
    """
    return _join([_entropies(z, y)[1] for z, y in _chunks(logits, labels)])


def correctness(logits: Tensor, labels: Tensor) -> np.ndarray:
    """Return 1.0 where the largest logit is the label's and 0.0 elsewhere, shape [n]; as `margins` otherwise."""
    return _join([z.argmax(dim=1) == y for z, y in _chunks(logits, labels)])


def features(logits: Tensor, labels: Tensor) -> dict[str, np.ndarray]:
    """Return all `FEATURES` of each example, float64, shape [n], turned so that higher means more like a member.

    - ``correctness``: 1 or 0.
    - ``confidence``: ``log p_y``, which unlike ``p_y`` does not round to one value for all that is well known.
    - ``entropy``, ``modified_entropy``: the negatives of `entropy` and `modified_entropy`.
    - ``margin``: `margins`.

    Confidence and margin rank examples alike; only attackers that assume a form of the scores tell them apart.
    One pass, a few MB at a time.

    Raises:
        ShapeError, DataError: as `margins`.

    >>> {name: value.round(2).tolist() for name, value in features(torch.zeros(1, 2), torch.tensor([0])).items()}
    {'correctness': [1.0], 'confidence': [-0.69], 'entropy': [-0.69], 'modified_entropy': [-0.69], 'margin': [0.0]}
    """
    parts = [_all(z, y) for z, y in _chunks(logits, labels)]
    return {name: _join([part[i] for part in parts]) for i, name in enumerate(FEATURES)}


def _all(logits: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    margin = _margins(logits, labels)
    plain, modified = _entropies(logits, labels)
    right = logits.argmax(dim=1) == labels
    return right, -_softplus(-margin), -plain, -modified, margin


def _entropies(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the entropy and the modified entropy.

    Only the top class can have p > 1/2, where neither log p nor log(1 - p) may be taken from p: both come from its
    margin. For the others ``log1p(-p)`` is exact.
    """
    top = logits.argmax(dim=1, keepdim=True)
    shifted = logits - logits.gather(1, top)
    top_margin = _margins(shifted, top[:, 0])[:, None]
    log_p = shifted - _softplus(-top_margin)  # the top's is 0 less its softplus: nothing is lost
    p = log_p.exp()
    log_rest = torch.log1p(-p.clamp(max=0.75)).scatter_(1, top, -_softplus(top_margin))  # log(1 - p)
    own = labels[:, None]
    log_p_own, log_rest_own = log_p.gather(1, own), log_rest.gather(1, own)
    plain = -torch.linalg.vecdot(p, log_p)
    wrong = torch.linalg.vecdot(p.scatter(1, own, 0.0), log_rest)
    return plain, -(log_rest_own.exp() * log_p_own)[:, 0] - wrong


def _softplus(x: Tensor) -> Tensor:
    """Return ``log(1 + exp(x))``; PyTorch's own turns into ``x`` from 20 on, which is off by 2e-9."""
    return torch.logaddexp(x, x.new_zeros(()))


def _chunks(logits: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    _check(logits, labels)
    rows = max(1, CHUNK // logits.shape[1])
    for start in range(0, len(logits), rows):
        part = logits[start : start + rows].detach().to(device="cpu", dtype=torch.float64)
        if not part.isfinite().all():
            raise DataError("`logits` must be finite, found NaN or infinity among them: check the model first.")
        yield part, labels[start : start + rows].detach().to(device="cpu", dtype=torch.int64)


def _check(logits: Tensor, labels: Tensor) -> None:
    if logits.ndim != 2 or logits.shape[1] < 2 or labels.shape != logits.shape[:1]:
        raise ShapeError(
            "`logits` must have shape [n, C] with at least two classes and `labels` shape [n], found "
            f"{list(logits.shape)} and {list(labels.shape)}."
        )
    if labels.is_floating_point():
        raise DataError(f"`labels` must be whole numbers, found {labels.dtype}.")
    if len(labels) and (int(labels.min()) < 0 or int(labels.max()) >= logits.shape[1]):
        raise DataError(
            f"`labels` must lie between 0 and {logits.shape[1] - 1}, as there are {logits.shape[1]} logits, found "
            f"{int(labels.min())} to {int(labels.max())}."
        )


def _join(parts: list[Tensor]) -> np.ndarray:
    found: np.ndarray = torch.cat(parts).to(torch.float64).numpy() if parts else np.zeros(0)
    return found
