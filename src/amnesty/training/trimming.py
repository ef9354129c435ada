"""The pre-step of methods that first destroy what a forget set depends on."""

from __future__ import annotations

from torch import Tensor, nn

from amnesty.errors import ModelError
from amnesty.tasks import Loss, cross_entropy
from amnesty.training.loop import Loop
from amnesty.weights import Scope, norm_parameters, snip_trim, stages


def trimmable(model: nn.Module, probe: Tensor, count: int) -> list[str]:
    """Return the names of what is trainable in the last ``count`` stages, the classifier among them, norms aside.

    Three of a ResNet are ``layer3``, ``layer4`` and ``fc``. All of them, where the network has fewer.

    Raises:
        ModelError: the model's stages cannot be told (`amnesty.weights.stages`), or nothing there is trainable.
    """
    norms = norm_parameters(model)
    names = [name for stage in stages(model, probe)[-count:] for name in stage]
    found = [name for name in names if name not in norms and model.get_parameter(name).requires_grad]
    if not found:
        raise ModelError(
            f"Nothing is trainable in the last {count} stages, norms aside: they end with {', '.join(names[-5:])}."
        )
    return found


def trim_stages(
    loop: Loop,
    names: list[str],
    share: float,
    loss: Loss = cross_entropy,
    *,
    batches: int = 1,
    batch_size: int = 256,
    scope: Scope = "all",
) -> None:
    """Draw anew those weights called ``names`` that matter most to the forget set; see `snip_trim`.

    The loop's masks hold. The history gets the fraction renewed of all of these, ``trimmed``, and of each,
    ``trimmed/<name>``.
    """
    forget = loop.parts["forget"]
    found = snip_trim(
        loop.model,
        forget,
        share,
        names=names,
        batches=batches,
        batch_size=batch_size,
        scope=scope,
        loss=loss,
        seed=loop.seed,
    )
    loop.settle()
    sizes = {name: loop.model.get_parameter(name).numel() for name in found}
    total = sum(fraction * sizes[name] for name, fraction in found.items()) / sum(sizes.values())
    loop.note(trimmed=total, **{f"trimmed/{name}": fraction for name, fraction in found.items()})
