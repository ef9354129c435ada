"""Updates that are bent until they no longer work against what was remembered."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice

import torch
from torch import Tensor, nn

from amnesty.bargaining import gramian
from amnesty.bargaining.gem import gem_dual
from amnesty.data import Batches
from amnesty.errors import NonFiniteError
from amnesty.seeds import generator
from amnesty.tasks import Loss, Source, device_of, to_device
from amnesty.training.hooks import Hook
from amnesty.training.masks import Masks
from amnesty.weights.measuring import measuring


def projected(
    model: nn.Module,
    source: Source,
    loss: Loss,
    names: Collection[str],
    *,
    memories: int = 10,
    margin: float = 0.5,
    batch_size: int = 256,
    seed: int = 0,
    masks: Masks | None = None,
) -> Hook:
    """Bend updates that would raise ``loss`` on some batch of ``source``.

    At the start of each epoch up to ``memories`` gradients m_k of the loss are taken, in evaluation mode, each of a
    batch of its own. Before each step, if ``<g, m_k> < 0`` for some k, the update g becomes ``g + M'v`` with v of
    `amnesty.bargaining.gem.gem_dual`: then ``<g, m_k> >= -1e-3 v_k``. Only parameters called ``names`` are looked at
    and changed. The memories take as much room as ``memories`` copies of these.

    Args:
        model: whose update is in ``p.grad``.
        source: the part of the data that is remembered.
        loss: that must not fall there, turned round: what the forgetting player lowers.
        names: of parameters.
        memories: batches at most.
        margin: the least of every v_k; see `gem_dual`.
        batch_size: examples behind a memory.
        seed: of the batches, which differ from epoch to epoch.
        masks: where weights may move; see `amnesty.training.Masks`.

    Source: Wu & Harandi, Scissorhands, ECCV 2024, arXiv:2401.06187, after Lopez-Paz & Ranzato, GEM, NeurIPS 2017,
    arXiv:1706.08840. In the published code each memory is the sum of those before it.
    """
    wanted = set(names)
    chosen = {name: p for name, p in model.named_parameters() if name in wanted and p.requires_grad}
    batches = Batches(source, batch_size, seed, "memories")
    held: list[list[Tensor]] = []
    inner: list[Tensor] = []

    def start_epoch(epoch: int) -> None:
        held.clear()
        with measuring(model, seed):
            for batch in islice(batches.iterate(epoch), memories):
                held.append(_slope(model, loss, batch, chosen, masks or {}, seed))
        inner[:] = [gramian(held)]
        if not inner[0].isfinite().all():
            raise NonFiniteError(f"A gradient on the forget set is not finite before epoch {epoch}.", None, model)

    @torch.no_grad()
    def before_step() -> None:
        update = [torch.zeros_like(p) if p.grad is None else p.grad for p in chosen.values()]
        products = torch.stack([_product(memory, update) for memory in held])
        if not (products < 0).any():
            return
        weights = gem_dual(inner[0], products, margin).tolist()
        for k, p in enumerate(chosen.values()):
            p.grad = sum((v * memory[k] for v, memory in zip(weights, held, strict=True)), update[k])

    def restore(found: tuple[list[list[Tensor]], list[Tensor]]) -> None:
        held[:], inner[:] = found

    # The memories are of weights that have moved since: they cannot be taken again.
    return Hook(start_epoch=start_epoch, before_step=before_step, state=lambda: (held, inner), restore=restore)


def _slope(
    model: nn.Module, loss: Loss, batch: object, chosen: dict[str, nn.Parameter], masks: Masks, seed: int
) -> list[Tensor]:
    with torch.enable_grad():
        value = loss(model, to_device(batch, device_of(model)), generator(seed, "memories"))
    found = torch.autograd.grad(value, list(chosen.values()), allow_unused=True)
    slopes = (torch.zeros_like(p) if g is None else g for g, p in zip(found, chosen.values(), strict=True))
    return [g * masks[name] if name in masks else g for g, name in zip(slopes, chosen, strict=True)]


def _product(first: list[Tensor], second: list[Tensor]) -> Tensor:
    return gramian([first, second])[0, 1]
