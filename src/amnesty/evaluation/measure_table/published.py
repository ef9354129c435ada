"""Measures as tables of the field print them."""

from __future__ import annotations

from functools import partial

from amnesty.evaluation.measure import DESTROYED, Measure

_published = partial(Measure, needs="compat", blind=DESTROYED)

PUBLISHED: tuple[Measure, ...] = (
    _published(
        "svc_confidence_compat",
        "MIA (SVC, confidence), as published",
        "MIA",
        "Share of the forgotten examples that a support vector machine on confidences, fitted to retained and test "
        "examples, calls non-members: the MIA efficacy in tables of the SalUn family. To be compared with published "
        "tables only.",
    ),
    _published(
        "svc_correctness_compat",
        "MIA (SVC, correctness), as published",
        "MIA (SVC)",
        "The same by correctness: the unlearning accuracy, or one minus it.",
        aim="reference",
    ),
    _published(
        "svc_entropy_compat",
        "MIA (SVC, entropy), as published",
        "MIA (SVC)",
        "The same by the entropy of the answer.",
        aim="reference",
    ),
    _published(
        "svc_privacy_confidence_compat",
        "MIA privacy (SVC, confidence), as published",
        "MIA privacy (SVC)",
        "Mean recall of that machine on further retained and test examples.",
        aim="reference",
    ),
    _published(
        "logistic_loss_compat",
        "MIA (logistic, loss), as published",
        "MIA (logistic)",
        "Cross-validated accuracy of a logistic regression on the loss, forgotten against test examples.",
        aim="chance",
    ),
    _published(
        "indiscernibility",
        "Indiscernibility",
        "Indiscernibility",
        "1 - 2 |a - 1/2|, with a the accuracy of Deep Unlearn's logistic regression on the loss; 1 is a coin.",
        aim="higher",
    ),
)
