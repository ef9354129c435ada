"""Are images and captions that belong together found among all others?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from amnesty.errors import InvalidInputError, ShapeError

_ENTRIES = 2**24  # scores that are held at once
_ROUNDING = 1e-6  # cosines this close, in float32, are a tie


@dataclass(frozen=True, eq=False)
class Ranks:
    """How many wrong answers stand before the best right one, for every query; 0 is best.

    Attributes:
        ranks: shape [n].
        candidates: how many answers there were to choose from.
    """

    ranks: Tensor
    candidates: int

    def found(self, within: int) -> Tensor:
        """Say for which queries a right answer is among the first ``within``, bool, shape [n].

        Raises:
            InvalidInputError: there are no more answers than that, so that chance alone would find it.
        """
        if within >= self.candidates:
            raise InvalidInputError(
                f"A right answer among the first {within} needs more than {within} to choose from, found "
                f"{self.candidates}."
            )
        return self.ranks < within


def ranks(queries: Tensor, answers: Tensor, pairs: Tensor) -> Ranks:
    """Rank the right answers of each query by the cosine.

    A wrong answer that is as near as the best right one, up to rounding, counts as nearer: a model that tells nothing
    apart finds nothing. Several answers may be right for a query. Scores of some queries at a time are in memory.

    Args:
        queries: unit features, shape [n, d].
        answers: unit features, shape [m, d], on the same device.
        pairs: which answer (second row) is right for which query (first row), shape [2, p]; every query has one.

    Raises:
        ShapeError: features or pairs of other shapes.
        InvalidInputError: a query without a right answer.

    Example:
        >>> images, texts = torch.eye(3), torch.eye(3)[[1, 0, 2]]
        >>> ranks(images, texts, torch.tensor([[0, 1, 2], [1, 0, 0]])).ranks
        tensor([0, 0, 2])
    """
    if queries.dim() != 2 or answers.dim() != 2 or queries.shape[1] != answers.shape[1]:
        raise ShapeError(
            "`queries` and `answers` must be features of one length, shapes [n, d] and [m, d], found "
            f"{list(queries.shape)} and {list(answers.shape)}."
        )
    if pairs.dim() != 2 or len(pairs) != 2:
        raise ShapeError(f"`pairs` must be numbers of queries and answers, shape [2, p], found {list(pairs.shape)}.")
    right_ones = pairs[:, pairs[0].argsort(stable=True)].to(queries.device)
    counts = torch.bincount(right_ones[0], minlength=len(queries))
    if len(counts) != len(queries) or not bool(counts.all()):
        raise InvalidInputError("Every query needs a right answer, and every pair a query.")
    ends = [0, *counts.cumsum(0).tolist()]
    rows = max(1, _ENTRIES // max(1, len(answers)))
    found = []
    for start in range(0, len(queries), rows):
        scores = queries[start : start + rows] @ answers.T
        mine = right_ones[:, ends[start] : ends[start + len(scores)]]
        right = torch.zeros_like(scores, dtype=torch.bool)
        right[mine[0] - start, mine[1]] = True
        best = scores.masked_fill(~right, -torch.inf).amax(dim=1, keepdim=True)
        found.append(((scores >= best - _ROUNDING) & ~right).sum(dim=1))
    return Ranks(torch.cat(found).cpu(), len(answers))
