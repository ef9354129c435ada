"""Image classification: a batch is inputs and class numbers, a model maps inputs to logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from amnesty.data import class_names
from amnesty.errors import InvalidInputError, ModelError
from amnesty.seeds import seeded
from amnesty.tasks import forgetting
from amnesty.tasks.base import Loss, Role, Source, device_of
from amnesty.tasks.inspection import Inspection, inspect, refuse_duplicates
from amnesty.tasks.labelled import Predictions, count_classes, predict, unpack
from amnesty.tasks.objectives import Mean, cross_entropy
from amnesty.tasks.overlap import refuse_shared_indices
from amnesty.tasks.task import Task, Wish
from amnesty.tasks.unseen import Unseen


class Classification(Task):
    """A classifier, what it must forget and what it must keep.

    Args:
        model: maps a batch of inputs to logits, shape [B, C], or to an object with such a ``logits``. It is
            never changed: `amnesty.unlearn` works on a copy.
        forget: examples the model was trained on and must forget; a data set of ``(input, label)`` pairs (or
            mappings with an input and a label) or a ``DataLoader`` of such batches. Or several of them by name,
            such as ``{"user 7": ..., "user 9": ...}``: methods that bargain give each a player of its own, for all
            others they are one forget set.
        retain: examples it was trained on and must keep. Some methods need none.
        holdout: examples it never saw, for evaluation only; no method reads them.
        validation: further unseen examples, with labels of the same kind as those of ``forget`` (wrong ones, where
            a poisoned batch is to be forgotten), which a method may read to know what unseen data looks like.
        nonmembers: unseen examples that are like the forgotten ones, to test membership against. By default
            the holdout examples of the same classes; needed where the forgotten labels are not like others,
            as with a poisoned batch.
        class_names: by default those of the data.
        duplicates: ``"refuse"`` raises when an example of ``forget`` is also in ``retain`` (the same input
            and label); ``"keep"`` allows it.

    Raises:
        ModelError: no parameter of the model is trainable.
        SplitError: a part is empty, or two parts take the same index of one data set.
        DataError: a named forget set is a loader that cannot be seen through.
        InvalidInputError: ``duplicates`` is unknown, or a named forget set has the name of a part.

    What the examples hold is checked by `check`, which `unlearn` and `evaluate` call before any work.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        forget: Source | Mapping[str, Source],
        retain: Source | None = None,
        holdout: Source | None = None,
        validation: Source | None = None,
        nonmembers: Source | None = None,
        class_names: Sequence[str] | None = None,
        duplicates: Literal["refuse", "keep"] = "refuse",
    ) -> None:
        if duplicates not in ("refuse", "keep"):
            raise InvalidInputError(f"`duplicates` must be 'refuse' or 'keep', found {duplicates!r}.")
        others = {"retain": retain, "holdout": holdout, "validation": validation, "nonmembers": nonmembers}
        rest = {name: source for name, source in others.items() if source is not None}
        super().__init__(model, forget, rest)
        given = {**(self.sets or {"forget": self.parts["forget"]}), **rest}
        self.duplicates = duplicates
        self._names = None if class_names is None else tuple(class_names)
        self._inspections: dict[str, Inspection] = {}
        self._classes = 0
        refuse_shared_indices(given)

    # What the players want.

    @property
    def learnt(self) -> Loss:
        """Cross-entropy."""
        return cross_entropy

    def preserved(self) -> Role:
        """Return the retaining player: cross-entropy on the retain set."""
        return Role("retain", cross_entropy)

    def wished(self, wish: Wish, cap: float | None = None) -> Role:
        """Return a forgetting player.

        Args:
            wish: what it wants.
                ``"unseen"``: to look like the validation part, or like a class never met; see `unseen_like`;
                ``"shifted"``: the same with shifted forget images in place of a validation part;
                ``"relabel"``: random labels of other classes that are kept;
                ``"relabel_any"``: random labels of any class, as published;
                ``"ascend"``: a high cross-entropy;
                ``"auto"``: ``"unseen"`` where the task can tell what that is (`knows_unseen`), else ``"relabel"``.
            cap: of ``"ascend"``: the cross-entropy (nats) that is high enough.
        """
        if wish == "ascend":
            return self.ascended(cap)
        if wish == "unseen" or (wish == "auto" and self.knows_unseen):
            return self.unseen_like()
        return self.unseen_like(shifted=True) if wish == "shifted" else self.relabelled(wish != "relabel_any")

    def relabelled(self, exclude_true: bool = True) -> Role:
        """Return a forgetting player: cross-entropy with labels drawn anew, uniformly, for each batch.

        They are drawn from the classes that are kept, without the true one. ``exclude_true=False`` draws
        from all classes, as in the published code: one example in C is then taught again, and a forgotten
        class may be drawn.
        """
        known = exclude_true and "retain" in self.parts
        pool = torch.unique(self.labels("retain")) if known else torch.arange(self.classes)
        return Role("forget", Mean(forgetting.relabelled(pool, exclude_true)))

    def ascended(self, cap: float | None = None) -> Role:
        """Return a forgetting player: minus the cross-entropy on the forget set.

        It is unbounded below. With ``cap`` an example whose cross-entropy exceeds it (nats; ``log C`` is
        guessing) has no more gradient.

        Raises:
            InvalidInputError: ``cap`` is not positive.
        """
        return Role("forget", Mean(forgetting.ascended(cap)))

    def unseen_like(self, shifted: bool = False) -> Role:
        """Return a forgetting player that wants the forget set to look like examples never seen, and no worse.

        Its loss is the Huber loss (in nats) of how far each margin lies above the margin of its like among
        unseen examples (`amnesty.tasks.margins.excess`). An example that looks unseen has no gradient, so
        that nothing is over-forgotten. What unseen looks like is read off the original model:

        - For a class of which some is kept: the margins of the validation part. With ``shifted``: those of the
          forget images moved by a random offset of up to an eighth of their side, which look unseen to a model
          that was trained without such shifts, and only to such a model.
        - For a class that is forgotten altogether: the margins that the retain set has for that class. A model
          that never met a class gives its images no more of it than it gives to anything else.

        `amnesty.tasks.Unseen` follows the model while it changes, and says how far there is to go.

        Raises:
            InvalidInputError: some class is only partly forgotten, and the task has no validation part (or inputs
                that are not images, with ``shifted``).
        """
        return Unseen(self, shifted).role(self.model)

    # What is in the data.

    @property
    def probe(self) -> Tensor:
        """First inputs of the forget set, shape [2, ...] at most: what a model can be tried on."""
        self.check()
        return self._inspections["forget"].probe

    @property
    def classes(self) -> int:
        """Number of classes C that the model tells apart. Checks the task first."""
        self.check()
        return self._classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; their numbers where the data has no names."""
        sets = (s.dataset if isinstance(s, DataLoader) else s for s in self.parts.values())
        names = self._names or next(filter(None, map(class_names, sets)), ())
        return names + tuple(str(c) for c in range(len(names), self.classes))

    def labels(self, part: str) -> Tensor:
        """Return the labels of a part, shape [n], in its order.

        Raises:
            InvalidInputError: the task has no such part.
        """
        self._find(part)
        self.check()
        return self._inspections[part].labels

    @property
    def forgotten_classes(self) -> tuple[int, ...]:
        """Classes that are forgotten altogether: they occur in the forget set and not in the retain set.

        Raises:
            InvalidInputError: the task has no retain set, so that nobody can tell.
        """
        kept = set(self.labels("retain").tolist())
        return tuple(sorted(set(self.labels("forget").tolist()) - kept))

    @property
    def knows_unseen(self) -> bool:
        """Say whether `unseen_like` can be asked for: a validation part, or only whole classes to forget."""
        if "retain" not in self.parts:
            return False
        return "validation" in self.parts or set(self.labels("forget").tolist()) <= set(self.forgotten_classes)

    def check(self) -> None:
        """Read all data once and try the model on it; raise before any work if something is wrong.

        Raises:
            DataError: inputs that are not finite or of different shapes, labels outside the classes, batches
                that are not inputs and class numbers.
            SplitError: examples of the forget set are in the retain set too.
            ModelError: the model cannot take the inputs, or does not return logits of shape [B, C].
        """
        if self._classes:
            return
        device = device_of(self.model)
        compared = ("forget", "retain") if self.duplicates == "refuse" and "retain" in self.parts else ()
        found = {}
        for name, source in self.parts.items():
            with seeded(0, device):  # data and models may draw random numbers; the caller's are not for them
                found[name] = inspect(name, source, unpack, hashed=name in compared)
        if compared:
            refuse_duplicates(found["forget"], found["retain"])
        for part in found.values():
            classes = count_classes(self.model, part)
            part.check_labels(classes)
        self._inspections, self._classes = found, classes

    def check_model(self, model: nn.Module) -> None:
        """Raise `ModelError` unless ``model`` takes the task's inputs and tells the same classes apart."""
        self.check()
        for part in self._inspections.values():
            found = count_classes(model, part)
            if found != self._classes:
                raise ModelError(f"The model tells {found} classes apart, the task's model {self._classes}.")

    # What a model says.

    def predict(self, model: nn.Module, part: str, batch_size: int = 512) -> Predictions:
        """Run ``model`` in evaluation mode, float32, over a part in its order; see `Predictions`.

        Raises:
            InvalidInputError: the task has no such part.
        """
        return predict(model, self.seen_by(model, self._find(part)), batch_size)

    def seen_by(self, model: nn.Module, source: Source) -> Source:
        """Return data of the task as ``model`` takes it; here as it is."""
        return source
