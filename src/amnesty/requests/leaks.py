"""Copies of what a request forgets: searched for before anything is trained, and what is done about them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset, default_collate

from amnesty.data.duplicates import Copy, Duplicates, find_duplicates
from amnesty.errors import ModelError, SplitError
from amnesty.requests.request import DuplicatesSpec, OnDuplicates
from amnesty.tasks import device_of, to_device, unpack
from amnesty.tasks.zero_shot import ZeroShotClassifier
from amnesty.weights import classifier_of
from amnesty.weights.measuring import measuring

ROUNDS = 10
"""How often the copies of copies are searched for."""

AT_ONCE = 256  # inputs that the model sees at once
NAMED = 3  # copies that a message names

Sets = Mapping[str, Dataset[Any]]


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What becomes of the parts.

    Attributes:
        action: what was asked for.
        found: the copies of all rounds, their indices those of the parts as they were.
        keep: name of a part -> the indices that stay in it, sorted; parts that stay whole are not named.
        add: name of a forget set -> ``"retain"`` and the indices of its examples that are forgotten too, sorted.
        rounds: how often was searched.
        settled: whether the last search found nothing more to change.
    """

    action: OnDuplicates
    found: Duplicates
    keep: Mapping[str, np.ndarray] = field(default_factory=dict)
    add: Mapping[str, tuple[str, np.ndarray]] = field(default_factory=dict)
    rounds: int = 1
    settled: bool = True

    @property
    def duplicates(self) -> Literal["refuse", "keep"]:
        """What to tell `amnesty.Classification` about examples that are in the retain set too."""
        return "keep" if self.action == "keep" else "refuse"

    def describe(self) -> dict[str, Any]:
        """Return plain values for a record: what was found (`Duplicates.describe`), and what was done about it."""
        gone = {part: self.found.sizes[part] - len(kept) for part, kept in self.keep.items()}
        moved = {name: len(indices) for name, (_, indices) in self.add.items()}
        return {
            "action": self.action,
            "moved": moved,
            "taken_out": {p: n - (sum(moved.values()) if p == "retain" else 0) for p, n in gone.items()},
            "rounds": self.rounds,
            "settled": self.settled,
            **self.found.describe(),
        }


def search(forget: Sets, parts: Sets, spec: DuplicatesSpec, model: nn.Module, *, workers: int = 0) -> Duplicates:
    """Search the other parts for copies of what is to be forgotten.

    Args:
        forget: the forget sets by name.
        parts: ``"retain"``, ``"holdout"``, ``"validation"``, ``"nonmembers"``, those that there are.
        spec: how; see `DuplicatesSpec`.
        model: what its last hidden layer says of inputs is compared too. It is left as it is.
        workers: processes that read data that is not in memory.

    Raises:
        SplitError: a part is empty.
        DataError: examples without a label, or of different sizes.
        ModelError: the model cannot take the inputs.
        InvalidInputError: a threshold outside (0, 1].
    """
    near = [kind for kind in spec.near if kind != "exact"]
    features, skipped = None, {}
    if "features" in near:
        probe = _probe(next(iter(forget.values())))
        _try(model, probe)
        try:
            features = penultimate(model, probe)
            features(probe)
        except ModelError as error:  # no reason to stop: whoever has no classifier can still unlearn
            near.remove("features")
            skipped["features"] = str(error)
    found = find_duplicates(forget, parts, near=near, features=features, threshold=spec.threshold, workers=workers)
    return dataclasses.replace(found, skipped={**found.skipped, **skipped})


def _probe(part: Dataset[Any]) -> Tensor:
    """Return the first two inputs of a part."""
    return unpack(default_collate([part[i] for i in range(min(2, len(part)))]))[0]  # type: ignore[arg-type]


def _try(model: nn.Module, probe: Tensor) -> None:
    try:
        with measuring(model), torch.no_grad():
            model(to_device(probe, device_of(model)))
    except Exception as error:  # whatever a model may raise
        raise ModelError(
            f"The model cannot take inputs of shape {list(probe.shape)}, {probe.dtype}: {error}"
        ) from error


def penultimate(model: nn.Module, probe: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the function from inputs, shape [B, ...], to what the model's classifier is given, shape [B, d].

    Of a model of two towers these are the image features.

    Raises:
        ModelError: the model has no layer that is a classifier; see `amnesty.weights.classifier_of`.

    >>> features = penultimate(nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3)), torch.zeros(2, 2))
    >>> features(torch.ones(5, 2)).shape
    torch.Size([5, 4])
    """
    if isinstance(model, ZeroShotClassifier):
        return _image_features(model)
    layer, device = model.get_submodule(classifier_of(model, probe)), device_of(model)

    def features(inputs: Tensor) -> Tensor:
        seen: list[Tensor] = []
        handle = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
        found = []
        try:
            with measuring(model), torch.no_grad():
                for block in torch.split(inputs, AT_ONCE):
                    seen.clear()
                    model(to_device(block, device))
                    found.append(_pooled(seen[-1], len(block)))
        finally:
            handle.remove()
        return torch.cat(found)

    return features


def _image_features(model: ZeroShotClassifier) -> Callable[[Tensor], Tensor]:
    def features(inputs: Tensor) -> Tensor:
        with measuring(model), torch.no_grad():
            blocks = torch.split(inputs, AT_ONCE)
            return torch.cat([model.image_features(to_device(b, device_of(model))).float().cpu() for b in blocks])

    return features


def _pooled(given: Tensor, count: int) -> Tensor:
    """Return one vector an example: the mean over the places of a map, shape [B, d, H, W], or over tokens."""
    if len(given) % count:
        raise ModelError(f"The classifier is given {len(given)} rows for {count} inputs.")
    given = given.reshape(count, -1, *given.shape[1:]) if len(given) != count else given
    if given.dim() == 3:  # tokens, shape [B, T, d]
        given = given.mean(1)
    return given.flatten(2).mean(2).float().cpu() if given.dim() > 2 else given.float().cpu()


def act(parts: Sets, duplicates: Duplicates, spec: DuplicatesSpec, *, workers: int = 0) -> Changes:
    """Do what is asked about clear copies; those that may be copies are only reported.

    ``"move"``: copies in the retain set join the forget set that they are copies of; those in other parts, which
    cannot stand for unseen data, are taken out. ``"drop"``: all are taken out. ``"keep"``: nothing. A moved example
    may have copies of its own, so that the rest is searched again for copies of what was moved until there are none,
    with the limits of the first search, 10 times at most.

    Args:
        parts: as for `search`.
        duplicates: what it found.
        spec: what to do; see `DuplicatesSpec`.
        workers: as for `search`.

    Raises:
        SplitError: there are clear copies and the action is ``"refuse"``, or a part would become empty.
    """
    if spec.action == "refuse" and duplicates.clear:
        raise SplitError(_refusal(duplicates))
    if spec.action in ("refuse", "keep"):
        return Changes(action=spec.action, found=duplicates)
    left = {name: np.arange(size) for name, size in duplicates.sizes.items()}
    found = {(copy.part, copy.index): copy for copy in duplicates.copies}
    latest, rounds, moved = duplicates.clear, 1, list[Copy]()
    while latest:
        found |= {(copy.part, copy.index): copy for copy in latest}
        _take_out(left, latest)
        fresh = [copy for copy in latest if copy.part == "retain"] if spec.action == "move" else []
        moved += fresh
        if not fresh or rounds == ROUNDS:
            break
        rounds += 1
        latest = _again(parts, left, fresh, duplicates, rounds, workers)
    order = list(duplicates.sizes)
    return Changes(
        action=spec.action,
        found=dataclasses.replace(
            duplicates, copies=tuple(found[key] for key in sorted(found, key=lambda k: (order.index(k[0]), k[1])))
        ),
        keep={name: kept for name, kept in left.items() if len(kept) < duplicates.sizes[name]},
        add=_additions(moved),
        rounds=rounds,
        settled=not (rounds == ROUNDS and latest and moved),
    )


def _take_out(left: dict[str, np.ndarray], copies: Sequence[Copy]) -> None:
    for name in {copy.part for copy in copies}:
        gone = [copy.index for copy in copies if copy.part == name]
        left[name] = np.setdiff1d(left[name], gone)
        if len(left[name]) == 0:
            raise SplitError(
                f"All examples of the {name} set are copies of examples to forget: without them it would be empty. "
                "Give other examples, or leave them with `duplicates: keep`."
            )


def _again(
    parts: Sets, left: Mapping[str, np.ndarray], fresh: Sequence[Copy], before: Duplicates, number: int, workers: int
) -> tuple[Copy, ...]:
    """Return the clear copies, among what is left, of the examples just moved; as copies of what those are copies of.

    Their indices are those of the parts as they were. Features are left out: they alone are never clear.
    """
    rest = {name: Subset(parts[name], kept.tolist()) for name, kept in left.items()}
    near = [kind for kind in before.limits if kind != "features"]
    moved = Subset(parts["retain"], [copy.index for copy in fresh])
    found = find_duplicates(moved, rest, near=near, limits=before.limits, workers=workers)
    return tuple(
        dataclasses.replace(
            copy,
            index=int(left[copy.part][copy.index]),
            forget_set=fresh[copy.forget].forget_set,
            forget=fresh[copy.forget].forget,
            forget_hash=fresh[copy.forget].forget_hash,
            round=number,
        )
        for copy in found.clear
    )


def _additions(moved: Sequence[Copy]) -> dict[str, tuple[str, np.ndarray]]:
    names = dict.fromkeys(copy.forget_set for copy in moved)
    return {name: ("retain", np.sort([c.index for c in moved if c.forget_set == name])) for name in names}


def _refusal(duplicates: Duplicates) -> str:
    found = duplicates.clear
    counts = [f"{sum(kinds.values())} in {part}" for part, kinds in duplicates.counts().items()]
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return (
        f"{len(found)} examples outside the forget set are copies of examples to forget ({', '.join(counts)}), such "
        f"as {'; '.join(map(str, found[:NAMED]))}{more}. In `retain` they are learnt again, elsewhere they cannot "
        "stand for unseen data. Set `duplicates` to `move` (forget copies in `retain` too, take out the others), "
        "`drop` (take out all) or `keep` (leave them and say so)."
    )
