"""What every domain is to the rooms above: a model, parts of the data, and what the players want."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal, get_args

from torch import nn

from amnesty.data import Batches, Joined, Together, dataset_of
from amnesty.errors import InvalidInputError, ModelError
from amnesty.tasks.base import Loss, Role, Source
from amnesty.tasks.objectives import Mean, Mixed

Wish = Literal["auto", "unseen", "shifted", "relabel", "relabel_any", "ascend"]
"""What a forgetting player wants; see `amnesty.Classification.wished`."""

WISHES: tuple[Wish, ...] = get_args(Wish)


class Task(ABC):
    """A model, what it must forget and what it must keep.

    Methods that ask for nothing else than what is here serve every domain: those that are not
    ``classifiers_only``.

    Args:
        model: is never changed: `amnesty.unlearn` works on a copy.
        forget: the forget set, or several by name: methods that bargain give each a player of its own.
        parts: the other parts of the data by name.

    Raises:
        InvalidInputError: no model, nothing to forget, or a named forget set has the name of a part.
        ModelError: no parameter of the model is trainable.
        SplitError, DataError: a part is empty, or has no length.
    """

    def __init__(self, model: nn.Module, forget: Source | Mapping[str, Source], parts: Mapping[str, Source]) -> None:
        if not isinstance(model, nn.Module):
            raise InvalidInputError(f"`model` must be a `torch.nn.Module`, found {type(model).__name__}.")
        if forget is None or (isinstance(forget, Mapping) and not forget):
            raise InvalidInputError("`forget` must be a data set, a `DataLoader`, or several by name; found none.")
        if not any(p.requires_grad for p in model.parameters()):
            raise ModelError("No parameter of `model` requires a gradient: there is nothing that could forget.")
        named = isinstance(forget, Mapping)
        self.model = model
        self.sets: dict[str, Source] = {str(k): v for k, v in forget.items()} if isinstance(forget, Mapping) else {}
        taken = {"forget", *PARTS, *parts} & self.sets.keys()
        if taken:
            raise InvalidInputError(f"`forget` must not name a set {sorted(taken)[0]!r}: parts are called so.")
        given: dict[str, Any] = {**(self.sets or {"forget": forget}), **parts}
        for name, source in given.items():
            Batches(source, name=name)  # refuses what is empty or has no length
        union = Joined([dataset_of(source, name) for name, source in self.sets.items()]) if named else forget
        self.parts: dict[str, Source] = {"forget": union, **parts}  # type: ignore[dict-item]

    # What the players want.

    @property
    @abstractmethod
    def learnt(self) -> Loss:
        """The loss by which a model like this one learns a part of the data: its slope tells which weights matter."""

    @abstractmethod
    def preserved(self) -> Role:
        """Return the retaining player."""

    @abstractmethod
    def wished(self, wish: Wish, cap: float | None = None) -> Role:
        """Return a forgetting player; see `amnesty.Classification.wished`."""

    @abstractmethod
    def ascended(self, cap: float | None = None) -> Role:
        """Return a forgetting player that unlearns by a higher loss, of each example up to ``cap``."""

    @abstractmethod
    def relabelled(self, exclude_true: bool = True) -> Role:
        """Return a forgetting player that learns something else instead, drawn anew for each batch."""

    def each(self, role: Role) -> dict[str, Role]:
        """Return a forgetting player for each named forget set; one called ``"forget"`` where there are none."""
        if not self.sets:
            return {"forget": role}
        return {name: dataclasses.replace(role, part=f"forget/{name}") for name in self.sets}

    def together(self, forget: Role, retain: Role, retained: Source | None = None) -> tuple[Role, Together]:
        """Return one player for both parts, and the one data set that it learns from in one shuffled stream.

        Args:
            forget: what is wanted of the forget set; its loss is a `Mean`.
            retain: what is wanted of the retain set, likewise.
            retained: a share of the retain set, in place of all of it.

        Raises:
            InvalidInputError: a loss is none of single examples, such as a contrastive one.
            DataError: a part is a loader that cannot be seen through.
        """
        if not isinstance(forget.loss, Mean) or not isinstance(retain.loss, Mean):
            raise InvalidInputError(
                "One shuffled stream of what to forget and what to keep needs losses of single examples, and this "
                "task's are not. Use a method whose players meet in every step, such as `amnesty.methods.MUNBa`."
            )
        retained = self._find("retain") if retained is None else retained
        sources = {"forget": self.parts["forget"], "retain": retained}
        both = Together([dataset_of(source, name) for name, source in sources.items()])
        return Role("together", Mixed((forget.loss.objective, retain.loss.objective))), both

    # What is in the data.

    @property
    def sources(self) -> dict[str, Source]:
        """Every part that a player may see, the named forget sets as ``"forget/<name>"``."""
        return {**self.parts, **{f"forget/{name}": source for name, source in self.sets.items()}}

    @property
    def settings(self) -> dict[str, Any]:
        """What decides beside the model, the data and the method where a run ends; by default nothing."""
        return {}

    @property
    def retrainable(self) -> bool:
        """Say whether a model like the task's comes of training on its parts from scratch."""
        return True

    @property
    @abstractmethod
    def probe(self) -> Any:
        """First inputs of the forget set: what a model can be tried on."""

    @property
    def forgotten_classes(self) -> tuple[int, ...]:
        """Classes that are forgotten altogether; none where there are no classes."""
        return ()

    @property
    def knows_unseen(self) -> bool:
        """Say whether a forgetting player can want to look unseen, and the run can tell when it does."""
        return False

    @abstractmethod
    def check(self) -> None:
        """Read what there is to be read and try the model on it; raise before any work if something is wrong."""

    def _find(self, part: str) -> Source:
        if part not in self.parts:
            raise InvalidInputError(f"This task has no part {part!r}; it has {', '.join(self.parts)}.")
        return self.parts[part]


PARTS = ("retain", "holdout", "validation", "nonmembers")
"""What parts of the data are called; a forget set may not be."""
