"""Products with the inverse of the empirical Fisher information, exact, without a matrix of the weights' size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from amnesty.data import Batches
from amnesty.errors import InvalidInputError, ShapeError
from amnesty.seeds import derive, generator
from amnesty.tasks import Source, unpack
from amnesty.weights.measuring import finite, measuring, trainable
from amnesty.weights.per_sample import each, gradient, marked

DIRECT = 256  # examples whose gradients are kept at once; more are computed anew in every round
_BLOCK = 2**18  # columns that are turned into float64 at a time
_ROUNDS = 200
_CONVERGED = 1e-6


def inverse_fisher(gradients: Tensor, vector: Tensor, damping: float) -> Tensor:
    """Return ``(G'G / N + damping I)^-1 v``, exactly, from an N x N system.

    By Woodbury's identity ``1/l [v - G' (l N I + G G')^-1 G v]`` with l the damping, in float64.

    Args:
        gradients: G, one gradient a row, shape [N, d].
        vector: v, shape [d].
        damping: l, positive.

    Returns:
        Shape [d], of the type of ``vector``.

    Raises:
        ShapeError: the shapes do not fit. InvalidInputError: ``damping`` is not positive and finite.

    Source: Woodbury's identity; for influence, Koh & Liang, ICML 2017. Published code of WoodFisher unlearning
    returns v plus a multiple of the first row.

    Example:
        >>> inverse_fisher(torch.tensor([[1.0, 0.0]]), torch.tensor([1.0, 1.0]), damping=1.0)
        tensor([0.5000, 1.0000])
    """
    if gradients.dim() != 2 or not len(gradients) or gradients.shape[1:] != vector.shape:
        raise ShapeError(
            f"`gradients` must have shape [N, d] and `vector` [d], found {list(gradients.shape)} and "
            f"{list(vector.shape)}."
        )
    return _woodbury([gradients], [vector], damping)[0]


def inverse_fisher_product(
    model: nn.Module,
    source: Source,
    vector: Mapping[str, Tensor],
    damping: float,
    *,
    samples: int = 256,
    chunk: int = 32,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Return ``(F + damping I)^-1 v`` with ``F = 1/N sum_i g_i g_i'``, g_i the gradient of an example's loss.

    The loss is the cross-entropy with the true label, in evaluation mode. Of up to 256 examples all gradients
    are kept (N times the model's size) and the answer is exact; of more they are computed anew in every round of
    the conjugate gradient method, which ends at a relative residual of 1e-6.

    Args:
        model: left as it is.
        source: labelled examples.
        vector: v, name of a trainable parameter -> its shape; F is that of these parameters.
        damping: positive.
        samples: N, drawn without repetition; all where there are fewer. Of a ``DataLoader`` the first N.
        chunk: examples at a time; ``1`` uses plain autograd, see `per_sample_gradients`.
        seed: of the draw.

    Returns:
        As ``vector``.

    Raises:
        UnknownNameError, ModelError: ``vector`` names no parameter, or one that is frozen.
        ShapeError: an entry has another shape than its parameter.
        InvalidInputError: ``damping`` or ``samples`` is not positive, or the conjugate gradients do not converge.
        NonFiniteError: the result is NaN or infinite.
    """
    parameters = trainable(model, vector)
    for name, v in vector.items():
        if name not in parameters or v.shape != parameters[name].shape:
            raise ShapeError(f"`vector` must have the shapes of trainable parameters; {name!r} does not: {v.shape}.")
    if samples < 1:
        raise InvalidInputError(f"`samples` must be at least 1, found {samples}.")
    drawn = _Drawn(model, parameters, source, samples, chunk, seed)
    flat = [vector[name].detach().flatten() for name in parameters]
    if len(drawn) <= DIRECT:
        rows = [torch.cat(blocks) for blocks in zip(*drawn.gradients(), strict=True)]
        found = _woodbury(rows, flat, damping)
    else:
        found = _conjugate(drawn, flat, damping)
    result = {name: x.view(parameters[name].shape) for name, x in zip(parameters, found, strict=True)}
    return finite({name: result[name] for name in vector}, "The inverse Fisher product")


class _Drawn:
    """The examples drawn, and their gradients."""

    def __init__(
        self,
        model: nn.Module,
        parameters: Mapping[str, Tensor],
        source: Source,
        samples: int,
        chunk: int,
        seed: int,
    ) -> None:
        self._model, self._parameters, self._chunk, self._seed = model, parameters, chunk, seed
        self._kept: list[tuple[Tensor, Tensor]] = []
        left = samples
        with measuring(model, seed):
            for batch in Batches(source, chunk, seed, "fisher").iterate():
                inputs, labels = (t[:left] for t in unpack(batch))
                self._kept += zip(torch.split(inputs, chunk), torch.split(labels, chunk), strict=True)
                left -= len(inputs)
                if not left:
                    break

    def __len__(self) -> int:
        return sum(len(labels) for _, labels in self._kept)

    def gradients(self) -> Iterator[list[Tensor]]:
        """Yield, a chunk at a time, one matrix [examples, entries] for each parameter."""
        draws = generator(self._seed, "labels")
        for k, pair in enumerate(self._kept):
            with measuring(self._model, derive(self._seed, "chunk", k)):
                inputs, labels = marked(self._model, *pair, "true", draws)
                found = each(self._model, self._parameters, inputs, labels, gradient("true"), self._chunk > 1)
            yield [g.flatten(1) for g in found.values()]


def _check_damping(damping: float) -> None:
    if not 0 < damping < math.inf:
        raise InvalidInputError(f"`damping` must be positive and finite, found {damping}.")


def _woodbury(rows: Sequence[Tensor], vector: Sequence[Tensor], damping: float) -> list[Tensor]:
    """Solve for a G that is given as matrices [N, d_k], side by side, and v as vectors [d_k]."""
    _check_damping(damping)
    count, home = len(rows[0]), rows[0].device
    system = torch.eye(count, dtype=torch.float64, device=home).mul_(damping * count)
    products = torch.zeros(count, dtype=torch.float64, device=home)
    for g, v in _blocks(rows, vector):
        system += g @ g.T
        products += g @ v
    factor = torch.linalg.cholesky(system)
    answer = torch.cholesky_solve(products[:, None], factor)[:, 0]
    found = [torch.empty_like(v) for v in vector]
    places = (place for whole in found for place in torch.split(whole, _BLOCK))
    for place, (g, v) in zip(places, _blocks(rows, vector), strict=True):
        place.copy_((v - g.T @ answer) / damping)
    return found


def _blocks(rows: Sequence[Tensor], vector: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    for g, v in zip(rows, vector, strict=True):
        for columns, entries in zip(torch.split(g, _BLOCK, dim=1), torch.split(v, _BLOCK), strict=True):
            yield columns.double(), entries.to(g.device).double()


def _conjugate(drawn: _Drawn, vector: Sequence[Tensor], damping: float) -> list[Tensor]:
    """Solve by the conjugate gradient method, in float64; F is applied a chunk of gradients at a time."""
    _check_damping(damping)
    residual = [v.double() for v in vector]
    direction = [r.clone() for r in residual]
    answer = [torch.zeros_like(r) for r in residual]
    first = square = _dot(residual, residual)
    for _ in range(_ROUNDS):
        if square <= _CONVERGED**2 * first:
            return [x.to(v) for x, v in zip(answer, vector, strict=True)]
        image = _apply(drawn, direction, damping)
        step = square / _dot(direction, image)
        for x, r, d, a in zip(answer, residual, direction, image, strict=True):
            x.add_(d, alpha=step)
            r.add_(a, alpha=-step)
        before, square = square, _dot(residual, residual)
        for r, d in zip(residual, direction, strict=True):
            d.mul_(square / before).add_(r)
    raise InvalidInputError(
        f"The conjugate gradients did not converge in {_ROUNDS} rounds: relative residual "
        f"{math.sqrt(square / first):.1e}, wanted {_CONVERGED:.0e}. Raise `damping` ({damping}), or take at most "
        f"{DIRECT} `samples`, for which the answer is exact."
    )


def _apply(drawn: _Drawn, vector: Sequence[Tensor], damping: float) -> list[Tensor]:
    image = [v * damping for v in vector]
    for chunk in drawn.gradients():
        pairs = [(g.double(), v) for g, v in zip(chunk, vector, strict=True)]
        products = torch.stack([g @ v for g, v in pairs]).sum(0) / len(drawn)
        for total, (g, _) in zip(image, pairs, strict=True):
            total.add_(g.T @ products)
    return image


def _dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    return sum(float(torch.dot(x, y)) for x, y in zip(a, b, strict=True))
