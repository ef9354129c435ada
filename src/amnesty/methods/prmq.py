"""PRMQ: prune nearly everything, start those weights anew, and match how sure the original was."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from amnesty.methods.base import About, Iterative
from amnesty.seeds import generator
from amnesty.tasks import Classification, Mean, Role, as_unsure, blend, frozen, weighted
from amnesty.training import Count, Loop, NotNegative, Part, Positive, Share
from amnesty.training.rarity import rarity
from amnesty.weights import prune_magnitude, renew
from amnesty.weights.layers import layer_parameters
from amnesty.weights.rounding import through_half


@dataclass(frozen=True, kw_only=True)
class PRMQ(Iterative):
    """Renew all but the largest weights, then fine-tune on the retain set to be as unsure as the original.

    Of the weights and biases of linear and convolution layers, ranked together by size, the share ``prune`` is drawn
    anew (weights uniformly, biases 0). Then lowers ``CE(retain) + (H(p) - H(p_0))^2``, H being the entropy of the
    softmax and p_0 the original's. At the end the weights are rounded to half precision.

    Args:
        epochs, last_pass: passes, and the share of its steps that the last one makes: 3.2 passes by default.
        prune: share of the weights that are drawn anew.
        rare: r, a class with n_c examples has the weight n_c^-r in the cross-entropy.
        faithful: round norm layers and their statistics too, as published.

    Source: fourth of the NeurIPS 2023 unlearning challenge, in Cadet et al., Deep Unlearn, 2024, arXiv:2410.01276,
    whose code makes one step more, and fails where a class is absent from the retain set.
    """

    about: ClassVar = About(
        "Prune, reinitialise, match, quantise", "PRMQ", "Cadet et al.", 2024, "arXiv:2410.01276", ("retain",)
    )

    lr: Positive = 5e-4
    epochs: Count = 4
    last_pass: Part = 0.2
    prune: Share = 0.99
    rare: NotNegative = 0.1
    faithful: bool = False

    def run(self, task: Classification, loop: Loop) -> None:
        """Prune and renew, match, quantise."""
        teacher = frozen(loop.model)
        loop.hold(self.masks(task, loop))
        self._renew(loop)
        classes = rarity(task.labels("retain"), task.classes, self.rare)
        wish = Mean(blend((1.0, weighted(classes)), (1.0, as_unsure(teacher))))
        replace(self, saliency=None).train(task, loop, {"retain": Role("retain", wish)}, last_pass=self.last_pass)
        through_half(loop.model, faithful=self.faithful)

    def _renew(self, loop: Loop) -> None:
        random = generator(loop.seed, "renew")
        for name, kept in prune_magnitude(loop.model, self.prune, layer_parameters(loop.model)).items():
            renew(loop.model, name, ~kept, generator=random)
