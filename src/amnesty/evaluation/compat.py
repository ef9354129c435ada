"""Attacks as published papers ran them, defects included: only for comparing with their tables.

No two of them are comparable; print the name of the protocol with the number. To judge a model, take
`amnesty.evaluation.membership` instead. All read what one model, in evaluation mode and float32, answers without
augmentation; probabilities are float32 softmaxes, as there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from amnesty.errors import InvalidInputError, UnknownNameError
from amnesty.seeds import derive
from amnesty.tasks import Predictions

PROTOCOLS: Mapping[str, str] = MappingProxyType(
    {
        "svc_compat": "Share of the forget set that a support vector machine, fitted on the first retained and "
        "all test examples, calls unseen (Unlearn-Sparse, SalUn, MUNBa: MIA efficacy).",
        "svc_privacy_compat": "Mean recall of that machine, fitted on half as many, on the retained and test "
        "examples left over (Unlearn-Sparse, MUNBa: training privacy).",
        "logistic_loss_compat": "Cross-validated accuracy of a logistic regression on the loss, forget against "
        "unseen examples (NeurIPS 2023 starting kit, MUNBa, deepunlearn).",
        "logistic_loss_scrub_compat": "The same with losses clipped to 100 and test examples of the forgotten "
        "classes only (SCRUB).",
        "logistic_entropy_ssd_compat": "Share of the forget set that a logistic regression on the entropy, fitted on "
        "retained and test examples, calls members (SSD).",
    }
)
"""Each protocol in a sentence, by the name of its function."""

SVC_FEATURES = ("correctness", "confidence", "entropy", "m_entropy", "prob")
GRID = 1e-4


@dataclass(frozen=True)
class _LossAttack:
    """How one code base prepares a logistic regression on the loss."""

    shuffled: str  # "forget", "longer" or "both": what is put in random order before it is cut
    cut_unseen: bool  # whether the unseen side is cut too, to the length of the forget set
    forget_first: bool
    forget_label: int
    split_seed: int


_LOSS_VARIANTS: Mapping[str, _LossAttack] = MappingProxyType(
    {
        "starting_kit": _LossAttack("forget", False, False, 1, 0),
        "munba": _LossAttack("longer", True, True, 1, 0),
        "deepunlearn": _LossAttack("both", True, True, 0, 123),
    }
)


def svc_compat(
    retain: Predictions, test: Predictions, forget: Predictions, feature: str = "confidence", *, exact: bool = False
) -> float:
    """Return the share of the forget set called unseen by the papers' support vector machine, in [0, 1].

    An RBF machine, C = 3, gamma = 1 / number of columns, unscaled, is fitted on the first ``len(test)`` retained
    examples, in stored order, against all test examples. It has no ideal value: compare with a retrained model.

    Defects kept: the first examples instead of a draw; a kernel of width 1 on probabilities crowded near 1;
    "correctness", which tells the accuracy again; "m_entropy", which takes log p for log(1 - p) and treats every
    class present in the evaluated set as the label. Not kept: its tables of [n, n].

    "correctness" is answered in closed form, "confidence" and "entropy" on a grid of 1e-4 with repeated values
    merged into weights, which turns at most 2 in 1,000 predictions, all within the solver's tolerance of the
    boundary; ``exact=True`` fits on the values themselves. "m_entropy" and "prob" are always exact, and
    slow: quadratic in the number of examples.

    Source: Jia et al., Model sparsity can simplify machine unlearning, NeurIPS 2023; Fan et al., SalUn, ICLR 2024;
    Wu and Harandi, MUNBa, ICCV 2025; from their code.

    Raises:
        InvalidInputError: fewer retained than test examples, or an empty part.
        UnknownNameError: another feature than "correctness", "confidence", "entropy", "m_entropy", "prob".
    """
    _check_svc(retain, test, len(test.labels))
    members, nonmembers, targets = (
        _svc_feature(p, feature) for p in (_first(retain, len(test.labels)), test, forget)
    )
    return 1 - float(_svc_calls(members, nonmembers, [targets], feature, exact)[0].mean())


def svc_privacy_compat(
    retain: Predictions, test: Predictions, feature: str = "confidence", *, exact: bool = False
) -> float:
    """Return the mean recall of the machine of `svc_compat` on retained and test examples, in [0, 1]; 0.5 is ideal.

    It is fitted on the first h examples of each, h half the number of test examples, and judged on the others.
    Raises and is fast as `svc_compat`.
    """
    half = len(test.labels) // 2
    _check_svc(retain, test, half + 1)
    parts = _first(retain, half), _first(test, half), _rest(retain, half), _rest(test, half)
    members, nonmembers, other_members, other_nonmembers = (_svc_feature(part, feature) for part in parts)
    called = _svc_calls(members, nonmembers, [other_members, other_nonmembers], feature, exact)
    return float(np.mean([called[0].mean(), 1 - called[1].mean()]))


def logistic_loss_compat(
    forget: Predictions, unseen: Predictions, *, variant: str = "munba", splits: int = 10, seed: int
) -> float:
    """Return the accuracy, in [0, 1], of a logistic regression that tells forgotten from unseen by the loss.

    Mean over stratified random splits, a tenth held out in each; 0.5 is ideal where both come from one law.

    Variants: "starting_kit" (only the forget set is shuffled and cut to the number of unseen examples, split seed
    0), "munba" (the longer side is, 0), "deepunlearn" (both are, 123).

    Defects kept: no sign, so that an over-forgotten model looks attackable; a weak attacker, as raw losses have heavy
    tails. Not kept: the subset hung on NumPy's global generator and follows ``seed`` here.

    Source: the starting kit of the NeurIPS 2023 machine unlearning challenge; the code of MUNBa; that of Cadet et
    al., Deep unlearn, arXiv:2410.01276.

    Raises:
        InvalidInputError: once the sides are cut, fewer than five examples on one or eleven in all; an empty part.
        UnknownNameError: another variant.
    """
    if variant not in _LOSS_VARIANTS:
        raise UnknownNameError("variant", variant, _LOSS_VARIANTS)
    way, random = _LOSS_VARIANTS[variant], np.random.default_rng(derive(seed, "logistic loss", variant))
    ours, theirs = _losses(forget), _losses(unseen)
    longer = (ours if len(ours) > len(theirs) else theirs) if way.shuffled == "longer" else None
    ours = random.permutation(ours) if way.shuffled in {"forget", "both"} or longer is ours else ours
    theirs = random.permutation(theirs) if way.shuffled == "both" or longer is theirs else theirs
    ours, theirs = ours[: len(theirs)], theirs[: len(ours)] if way.cut_unseen else theirs
    sides = [(ours, way.forget_label), (theirs, 1 - way.forget_label)]
    return _validated(sides if way.forget_first else sides[::-1], splits, way.split_seed)


def logistic_loss_scrub_compat(forget: Predictions, test: Predictions, *, splits: int = 5, seed: int) -> float:
    """Return `logistic_loss_compat` as SCRUB computes it, in [0, 1]; 0.5 is ideal. The paper prints percent.

    Test examples of classes outside the forget set are dropped, the longer side is drawn down to the shorter,
    losses are clipped to 100. ``seed`` is that of the run: of the splits and, derived, of the draw.

    Source: Kurmanji et al., Towards unbounded machine unlearning, NeurIPS 2023, and its code. Differs in that the
    test set is not changed in place. Raises `InvalidInputError` for an empty part, or fewer than six examples on a
    side, of which unseen ones of other classes do not count.
    """
    random = np.random.default_rng(derive(seed, "logistic loss", "scrub"))
    like = torch.isin(test.labels, forget.labels)
    ours, theirs = _losses(forget), _losses(Predictions(test.logits[like], test.labels[like]))
    size = min(len(ours), len(theirs))
    ours, theirs = (
        side if len(side) == size else random.choice(side, size, replace=False) for side in (ours, theirs)
    )
    return _validated([(theirs.clip(-100, 100), 0), (ours.clip(-100, 100), 1)], splits, seed)


def logistic_entropy_ssd_compat(retain: Predictions, test: Predictions, forget: Predictions) -> float:
    """Return the share of the forget set that SSD's attack calls members, in [0, 1]; compare with a retrained model.

    A logistic regression, classes balanced, on the entropy of the answer, all retained against all test examples.

    Defects kept: the entropy ignores the label, so that a sure and wrong answer counts as memory. Two weight
    vectors under one penalty, as a multinomial regression has, are a single one under half of it: hence C = 2.

    Source: Foster et al., Fast machine unlearning without retraining through selective synaptic dampening, AAAI
    2024, and its code. Raises `InvalidInputError` for an empty part.
    """
    from sklearn.linear_model import LogisticRegression

    members, nonmembers, targets = (_entropy(_probabilities(p)).numpy()[:, None] for p in (retain, test, forget))
    truth = np.repeat([1.0, 0.0], [len(members), len(nonmembers)])
    attacker = LogisticRegression(C=2.0, class_weight="balanced").fit(np.concatenate([members, nonmembers]), truth)
    return float(attacker.predict(targets).mean())


def indiscernibility(accuracy: float) -> float:
    """Return ``1 - 2 |a - 1/2|`` for an attack's accuracy a; in [0, 1], higher: harder to tell apart.

    Source: Cadet et al., Deep unlearn, arXiv:2410.01276. Raises `InvalidInputError` for an accuracy outside [0, 1].

    >>> indiscernibility(0.75)
    0.5
    """
    if not 0 <= accuracy <= 1:
        raise InvalidInputError(f"An accuracy must lie in [0, 1], found {accuracy}; percent are divided by 100.")
    return 1 - 2 * abs(accuracy - 0.5)


def _probabilities(part: Predictions) -> Tensor:
    if len(part.labels) == 0:
        raise InvalidInputError("An attack needs at least one example in each part, found an empty part.")
    if not part.logits.isfinite().all():
        raise InvalidInputError("An attack needs finite logits, found NaN or infinity among them.")
    return part.logits.detach().cpu().float().softmax(dim=1)


def _losses(part: Predictions) -> np.ndarray:
    _probabilities(part)  # its checks
    found: np.ndarray = F.cross_entropy(part.logits.detach().float(), part.labels, reduction="none").cpu().numpy()
    return found


def _entropy(p: Tensor) -> Tensor:
    return -torch.where(p > 0, p * p.log(), p.new_zeros(1)).sum(dim=-1)


def _present_entropy(p: Tensor, labels: Tensor) -> Tensor:
    """Return the papers' "modified entropy": ``-sum q_c log p_c``, q = 1 - p for present classes, p for others."""
    log_p = torch.where(p > 0, p.log(), p.new_tensor(1e-30).log())
    present = torch.isin(torch.arange(p.shape[1]), labels.cpu())
    return -torch.where(present, 1 - p, p).mul(log_p).sum(dim=-1)


def _svc_feature(part: Predictions, feature: str) -> np.ndarray:
    """Return one row for each example, shape [n, 1] or [n, C]."""
    p, labels = _probabilities(part), part.labels.cpu()
    found = {
        "correctness": (p.argmax(dim=1) == labels).int(),
        "confidence": p.gather(1, labels[:, None]),
        "entropy": _entropy(p),
        "m_entropy": _present_entropy(p, labels),
        "prob": p,
    }
    if feature not in found:
        raise UnknownNameError("feature", feature, found)
    return found[feature].numpy().reshape(len(p), -1)


def _svc_calls(
    members: np.ndarray, nonmembers: np.ndarray, targets: list[np.ndarray], feature: str, exact: bool
) -> list[np.ndarray]:
    """Return 1 for each target that is called a member and 0 else."""
    if feature == "correctness" and not exact and members.sum() != nonmembers.sum():
        # Of as many of each side, the one with more right answers owns "right", and the other "wrong".
        right_is_member = int(members.sum() > nonmembers.sum())
        return [(target[:, 0] == right_is_member).astype(np.float64) for target in targets]
    merge = feature in {"confidence", "entropy"} and not exact
    rows, truth, weights = _merged(members, nonmembers) if merge else _stacked(members, nonmembers)
    attacker = _svc().fit(rows, truth, sample_weight=weights)
    return [attacker.predict(target) for target in targets]


def _svc() -> Any:
    from sklearn.svm import SVC

    return SVC(C=3, gamma="auto", kernel="rbf")


def _stacked(members: np.ndarray, nonmembers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    return np.concatenate([members, nonmembers]), np.repeat([1.0, 0.0], [len(members), len(nonmembers)]), None


def _merged(members: np.ndarray, nonmembers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sides = [
        np.unique(np.rint(side[:, 0].astype(np.float64) / GRID), return_counts=True) for side in (members, nonmembers)
    ]
    values, counts = (np.concatenate(both) for both in zip(*sides, strict=True))
    return GRID * values[:, None], np.repeat([1.0, 0.0], [len(v) for v, _ in sides]), counts.astype(np.float64)


def _validated(sides: list[tuple[np.ndarray, int]], splits: int, seed: int) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedShuffleSplit, cross_val_score

    losses = np.concatenate([side for side, _ in sides])[:, None]
    truth = np.repeat([label for _, label in sides], [len(side) for side, _ in sides])
    if min(len(side) for side, _ in sides) < 5 or len(truth) < 11:  # a tenth of ten could not hold both sides
        found = sorted(len(side) for side, _ in sides)
        raise InvalidInputError(
            "Cross-validation needs at least five examples on each side and eleven in all, of which it holds out a "
            f"tenth with both sides in it; found {found}. Give more examples."
        )
    cv = StratifiedShuffleSplit(n_splits=splits, random_state=seed)
    return float(cross_val_score(LogisticRegression(), losses, truth, cv=cv, scoring="accuracy").mean())


def _check_svc(retain: Predictions, test: Predictions, needed: int) -> None:
    if len(retain.labels) < needed or len(test.labels) < 2:
        raise InvalidInputError(
            f"This protocol takes as many retained as test examples, in order: it needs at least {needed} retained "
            f"and 2 test examples, found {len(retain.labels)} and {len(test.labels)}. Give fewer test examples."
        )


def _first(part: Predictions, count: int) -> Predictions:
    return Predictions(part.logits[:count], part.labels[:count])


def _rest(part: Predictions, count: int) -> Predictions:
    return Predictions(part.logits[count:], part.labels[count:])
