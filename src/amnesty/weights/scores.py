"""What each weight means for a part of the data: gradients over it, and their squares."""

from __future__ import annotations

from itertools import islice

import torch
from torch import Tensor, nn

from amnesty.data import Batches
from amnesty.errors import InvalidInputError, LossError
from amnesty.seeds import generator
from amnesty.tasks import Loss, Source, cross_entropy, device_of, unpack
from amnesty.tasks.labelled import logits
from amnesty.weights.measuring import count_examples, finite, measuring, trainable, wide, zeros_like
from amnesty.weights.per_sample import Labels, backward, check_labels, chunks, each, marked, size


def dataset_gradient(
    model: nn.Module,
    source: Source,
    loss: Loss = cross_entropy,
    *,
    batch_size: int = 256,
    batches: int | None = None,
    seed: int | None = None,
    absolute: bool = False,
) -> dict[str, Tensor]:
    """Return the gradient of the loss summed over the examples, in evaluation mode: name -> shape of the parameter.

    ``sum_b B_b * grad(loss of batch b)``, B_b the examples in batch b, so that no batch size or leftover
    changes the result of a loss that is a mean over examples.

    Args:
        model: of which only trainable parameters count; left as it is, ``.grad`` included.
        source: the part of the data.
        loss: see `amnesty.tasks.Loss`.
        batch_size: examples in a batch, at most.
        batches: stop after so many; by default all.
        seed: of the order of the examples, of labels and noise; ``None`` keeps the order of the data.
        absolute: add the absolute values of the batches' gradients instead (depends on ``batch_size``).

    Raises:
        ModelError: no trainable parameter.
        LossError: the loss is no scalar, or no trainable parameter can change it.
        NonFiniteError: a gradient is NaN or infinite.

    Source: Fan et al., SalUn, ICLR 2024, arXiv:2310.12508, Eq. 3; with ``absolute``, Wu & Harandi,
    Scissorhands, ECCV 2024, arXiv:2401.06187. Published code sums batch means, whatever their sizes.

    Example:
        >>> from amnesty.data import Examples
        >>> model = torch.nn.Linear(1, 2, bias=False)
        >>> _ = torch.nn.init.zeros_(model.weight)
        >>> dataset_gradient(model, Examples(torch.ones(4, 1), torch.tensor([0, 0, 0, 1])))
        {'weight': tensor([[-1.],
                [ 1.]])}
    """
    if batches is not None and batches < 1:
        raise InvalidInputError(f"`batches` must be at least 1, or None for all, found {batches}.")
    parameters = trainable(model)
    stream = Batches(source, batch_size, seed, "scores")
    draws = generator(seed or 0, "scores")
    total = zeros_like(parameters)
    with measuring(model, seed or 0):
        for batch in islice(stream.iterate(), batches):
            with torch.enable_grad():
                value = loss(model, batch, draws)
            if value.dim() or not value.requires_grad:
                raise LossError(
                    f"`loss` must return a scalar that a trainable parameter can change, found shape "
                    f"{list(value.shape)}, requires_grad={value.requires_grad}."
                )
            count = count_examples(batch)
            for name, g in backward(value, parameters, torch.ones_like(value)).items():
                total[name] += count * (g.abs() if absolute else g)
    return finite(total, "The gradient")


def squared_gradients(
    model: nn.Module,
    source: Source,
    labels: Labels = "true",
    *,
    chunk: int = 32,
    seed: int = 0,
    per_batch: int | None = None,
) -> dict[str, Tensor]:
    """Return how much each weight matters to the examples: the mean square of the gradients of single examples.

    With l(y|x) = -log p(y|x), for each parameter theta_j, in evaluation mode:

    - ``"true"``: mean over (x, y) of ``(dl(y|x) / dtheta_j)^2``;
    - ``"expected"``: mean over x of ``sum_y p(y|x) (dl(y|x) / dtheta_j)^2``, the diagonal of the Fisher
      information, in C backward passes;
    - ``"sampled"``: its unbiased estimate from one label y ~ p(.|x) an example;
    - ``"norm"``: mean over x of ``|d |z(x)|^2 / dtheta_j|``, z the logits: no label, and no square.

    Args:
        model: of which only trainable parameters count; left as it is.
        source: labelled examples.
        labels: see above.
        chunk: examples at a time, each of which takes as much memory as the parameters; it does not change the
            result. ``1`` uses plain autograd, for models that `torch.func.vmap` cannot take.
        seed: of the labels that ``"sampled"`` draws.
        per_batch: square the mean gradients of batches of so many examples instead, in the order of the data, as
            published code does: the result then depends on batch size and order. Batches are of nearly
            equal size; give a ``DataLoader``, which keeps its own batches, for others. For ``"true"`` and
            ``"norm"`` only.

    Returns:
        Name -> shape of the parameter, float32, not negative.

    Raises:
        InvalidInputError: unknown ``labels``, ``chunk`` or ``per_batch`` below 1.
        ModelError: no trainable parameter, or `torch.func.vmap` cannot take the model.
        NonFiniteError: a gradient is NaN or infinite.

    Source: Foster et al., SSD, AAAI 2024, arXiv:2308.07707 (``"true"``); arXiv:2402.19308 (``"norm"``);
    Golatkar et al., CVPR 2020, arXiv:1911.04933 (``"expected"``).

    Example:
        >>> from amnesty.data import Examples
        >>> model = torch.nn.Linear(1, 2, bias=False)
        >>> _ = torch.nn.init.zeros_(model.weight)
        >>> data = Examples(torch.ones(4, 1), torch.tensor([0, 0, 1, 1]))
        >>> squared_gradients(model, data)["weight"].flatten()  # the mean gradient is zero
        tensor([0.2500, 0.2500])
    """
    check_labels(labels)
    if per_batch is not None:
        return _of_batches(model, source, labels, per_batch)
    parameters = trainable(model)
    total, count = zeros_like(parameters), 0
    draws = generator(seed, "labels")
    with measuring(model, seed):
        for pair in chunks(source, chunk):
            inputs, marks = marked(model, *pair, labels, draws)
            for name, found in each(model, parameters, inputs, marks, size(labels), chunk > 1).items():
                total[name] += found.sum(0)
            count += len(inputs)
    return finite({name: score / count for name, score in total.items()}, "The squared gradient")


def _of_batches(model: nn.Module, source: Source, labels: Labels, batch_size: int) -> dict[str, Tensor]:
    if labels not in ("true", "norm"):
        raise InvalidInputError(f"`per_batch` goes with `labels` 'true' or 'norm', found {labels!r}.")
    parameters = trainable(model)
    batches = Batches(source, batch_size)
    total, device = zeros_like(parameters), device_of(model)
    with measuring(model):
        for batch in batches.iterate():
            inputs, marks = unpack(batch)
            with torch.enable_grad():
                z = wide(logits(model(inputs.to(device))))
                if labels == "norm":
                    value = z.square().sum(1).mean()
                else:
                    value = nn.functional.cross_entropy(z, marks.to(device))
            for name, g in backward(value, parameters, torch.ones_like(value)).items():
                total[name] += g.abs() if labels == "norm" else g.square()
    return finite({name: score / len(batches) for name, score in total.items()}, "The squared gradient")
