"""The gradient of every example by itself, many examples at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from amnesty.data import Batches
from amnesty.errors import AmnestyError, InvalidInputError, ModelError
from amnesty.seeds import derive, generator
from amnesty.tasks import Source, device_of, unpack
from amnesty.tasks.labelled import logits
from amnesty.weights.measuring import measuring, trainable, wide

Labels = Literal["true", "expected", "sampled", "norm"]
"""What an example's gradient is of. ``"true"``: the cross-entropy with its label. ``"sampled"``: that with one
label drawn from what the model says, y ~ p(.|x). ``"expected"``: that with every label y, weighted by p(y|x).
``"norm"``: the squared length of the logits, |z(x)|^2, which needs no label."""

LABELS: tuple[Labels, ...] = get_args(Labels)

Back = Callable[[Tensor], Mapping[str, Tensor]]
"""Maps a direction in the logits, shape [C], to the gradient of their inner product with the logits."""

Combine = Callable[[Back, Tensor, Tensor], Mapping[str, Tensor]]
"""Makes of `Back`, an example's logits, shape [C], and its label what is wanted of each parameter."""


def per_sample_gradients(
    model: nn.Module,
    source: Source,
    labels: Literal["true", "sampled", "norm"] = "true",
    *,
    chunk: int = 32,
    seed: int = 0,
    names: Iterable[str] | None = None,
) -> Iterator[dict[str, Tensor]]:
    """Yield name -> gradients of up to ``chunk`` examples, shape [examples, *shape of the parameter].

    In evaluation mode, float32, in the order of the data; the model is as before whenever the caller has control.

    Args:
        model: of which only trainable parameters count.
        source: labelled examples.
        labels: what the gradient is of; see `Labels`.
        chunk: examples at a time; each takes as much memory as the parameters. ``1`` uses plain autograd, for
            models that `torch.func.vmap` cannot take.
        seed: of the labels that ``"sampled"`` draws; they do not depend on ``chunk``.
        names: of the parameters wanted; by default all that are trainable.

    Raises:
        InvalidInputError: unknown ``labels``, or ``chunk`` is below 1.
        ModelError: no trainable parameter, or `torch.func.vmap` cannot take the model.
    """
    check_labels(labels, tuple(k for k in LABELS if k != "expected"))
    parameters = trainable(model, names)
    draws = generator(seed, "labels")
    with measuring(model, seed):
        stream = chunks(source, chunk)
    for k in range(2**62):
        with measuring(model, derive(seed, "chunk", k)):
            pair = next(stream, None)
            if pair is None:
                return
            inputs, marks = marked(model, *pair, labels, draws)
            found = each(model, parameters, inputs, marks, gradient(labels), chunk > 1)
        yield found


def check_labels(labels: str, known: tuple[str, ...] = LABELS) -> None:
    """Raise `InvalidInputError` unless ``labels`` is ``known``."""
    if labels not in known:
        raise InvalidInputError(f"`labels` must be one of {', '.join(known)}, found {labels!r}.")


def chunks(source: Source, chunk: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield inputs, shape [B, ...], and labels, shape [B], with B at most ``chunk``, in the order of the data."""
    batches = Batches(source, chunk)
    return (part for batch in batches.iterate() for part in _parts(*unpack(batch), chunk))


def _parts(inputs: Tensor, labels: Tensor, chunk: int) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(
        torch.split(inputs, chunk), torch.split(labels, chunk), strict=True
    )  # a loader has batches of its own size


def marked(
    model: nn.Module, inputs: Tensor, labels: Tensor, kind: Labels, draws: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return inputs and labels on the model's device; ``"sampled"`` labels are drawn, one number an example."""
    device = device_of(model)
    inputs = inputs.to(device)
    if kind == "sampled":
        chances = logits(model(inputs)).double().softmax(1).cpu()
        where = torch.rand(len(inputs), 1, generator=draws, dtype=torch.float64)
        labels = (chances.cumsum(1) < where).sum(1).clamp(max=chances.shape[1] - 1)
    return inputs, labels.to(device)


def directions(z: Tensor, label: Tensor, kind: Labels) -> Iterator[tuple[Tensor | float, Tensor]]:
    """Yield a weight and the derivative by the logits ``z``, shape [C], of each function that ``kind`` means."""
    if kind == "norm":
        yield 1.0, 2 * z
        return
    chances, classes = z.softmax(0), torch.arange(len(z), device=z.device)
    for y in range(len(z)) if kind == "expected" else (label,):
        weight = chances[y] if kind == "expected" else 1.0
        yield weight, chances - (classes == y).to(z.dtype)


def gradient(kind: Labels) -> Combine:
    """Make the `Combine` that returns an example's gradient."""

    def combine(back: Back, z: Tensor, label: Tensor) -> Mapping[str, Tensor]:
        ((_, direction),) = directions(z, label, kind)
        return back(direction)

    return combine


def size(kind: Labels) -> Combine:
    """Make the `Combine` that returns the weighted sum of the squares; for ``"norm"`` that of absolute values."""

    def combine(back: Back, z: Tensor, label: Tensor) -> Mapping[str, Tensor]:
        total: dict[str, Tensor] = {}
        for weight, direction in directions(z, label, kind):
            for name, g in back(direction).items():
                found = g.abs() if kind == "norm" else weight * g.square()
                total[name] = total[name] + found if name in total else found
        return total

    return combine


def each(
    model: nn.Module,
    parameters: Mapping[str, Tensor],
    inputs: Tensor,
    labels: Tensor,
    combine: Combine,
    vectorised: bool,
) -> dict[str, Tensor]:
    """Apply ``combine`` to every example of a chunk and stack the results: name -> shape [B, ...].

    Raises:
        ModelError: `torch.func.vmap` cannot take the model, or this does not return logits.
    """
    if not vectorised:
        found = [_plain(model, parameters, x, y, combine) for x, y in zip(inputs, labels, strict=True)]
        return {name: torch.stack([one[name] for one in found]) for name in parameters}
    values = {name: p.detach() for name, p in parameters.items()}

    def one(x: Tensor, label: Tensor) -> dict[str, Tensor]:
        z, back = vjp(lambda theta: _logits_of_one(functional_call(model, theta, (x.unsqueeze(0),))), values)[:2]
        return dict(combine(lambda direction: {n: wide(g) for n, g in back(direction)[0].items()}, z, label))

    try:
        with sdpa_kernel(SDPBackend.MATH):  # fused attention has no rule for single examples
            return vmap(one, randomness="different")(inputs, labels)
    except (AmnestyError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a model may raise
        raise ModelError(
            f"The gradients of single examples of a {type(model).__name__} cannot be taken by `torch.func.vmap`: "
            f"{error}. Pass `chunk=1`, which takes one example at a time by plain autograd."
        ) from error


def _plain(
    model: nn.Module, parameters: Mapping[str, Tensor], x: Tensor, label: Tensor, combine: Combine
) -> dict[str, Tensor]:
    with torch.enable_grad():
        z = _logits_of_one(model(x.unsqueeze(0)))

    def back(direction: Tensor) -> dict[str, Tensor]:
        return backward(z, parameters, direction)

    return dict(combine(back, z.detach(), label))


def backward(outputs: Tensor, parameters: Mapping[str, Tensor], direction: Tensor) -> dict[str, Tensor]:
    """Return the gradient of ``<direction, outputs>``, zero where a parameter has no part; the graph is kept."""
    tensors = list(parameters.values())
    if not outputs.requires_grad:
        raise ModelError("The model's output depends on none of its trainable parameters.")
    found = torch.autograd.grad(outputs, tensors, direction, retain_graph=True, allow_unused=True)
    pairs = zip(parameters, tensors, found, strict=True)
    return {name: torch.zeros_like(wide(p.detach())) if g is None else wide(g.to_dense()) for name, p, g in pairs}


def _logits_of_one(output: object) -> Tensor:
    z = logits(output)
    if not isinstance(z, Tensor) or z.dim() != 2 or len(z) != 1:
        found = list(z.shape) if isinstance(z, Tensor) else type(z).__name__
        raise ModelError(f"The model must return logits of shape [1, classes] for one example, found {found}.")
    return wide(z)[0]
