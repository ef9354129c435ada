"""A request for a model that was trained on examples, with everything that it names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from amnesty.evaluation import Evaluator, Scores, write_answers
from amnesty.evaluation.zero_shot import zero_shot_facts
from amnesty.files import write_json
from amnesty.requests.aside import set_aside
from amnesty.requests.audit import PartFacts
from amnesty.requests.digests import ANSWERS
from amnesty.requests.forgotten import Forgotten
from amnesty.requests.leaks import Changes
from amnesty.requests.models import load_model
from amnesty.requests.parts import Parts
from amnesty.requests.prepared import REFERENCE, Prepared, Stopped, never
from amnesty.requests.rechecking import Rechecked, recheck
from amnesty.requests.request import ModelSpec, Request, SourceSpec
from amnesty.requests.sources import Sources
from amnesty.requests.towers import load_towers
from amnesty.requests.zero_shot import ZERO_SHOT, saved, settings_of
from amnesty.studies.run_checks import ORIGINAL
from amnesty.tasks import Classification, device_of
from amnesty.tasks.zero_shot import ZeroShot
from amnesty.unlearning import Outcome


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedExamples(Prepared):
    """A request for a model that was trained on examples, with everything that it names.

    Attributes:
        sources: the data sets. parts: which rows of them are forgotten, kept, and never seen.
        reference: a model that was retrained without the forget set.
        leaks: copies of the forget set among the rest, and what was done about them.
    """

    request: Request
    sources: Sources
    parts: Parts
    task: Classification
    reference: nn.Module | None
    leaks: Changes

    # What is said of it.

    @property
    def asked(self) -> str:
        """Counts, and classes by name; no values of columns, which may name people."""
        counts, task = self.parts.counts, self.task
        total = sum(counts[name] for name in self.parts.forget)
        trained = total + counts["retain"]
        gone = [task.class_names[c] for c in task.forgotten_classes]
        classes = f", among them all of class {', '.join(gone)}" if gone else ""
        sets = len(self.parts.forget)
        apart = f" in {sets} sets" if sets > 1 else ""
        return f"Forget {total:,} of {trained:,} training examples{apart}{classes}."

    @property
    def data(self) -> str:
        """Where the training data comes from."""
        return f"{self.request.data.training.kind}: {self.request.data.training.name}"

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of examples by part."""
        return self.parts.counts

    @property
    def parts_facts(self) -> Mapping[str, PartFacts]:
        """How many examples each part has, and their hash."""
        counts, content = self.parts.counts, self.parts.content
        return {name: PartFacts(counts[name], content[name]) for name in self.parts}

    @property
    def forgotten(self) -> Forgotten:
        """The hashes of the examples of the forget sets."""
        sets = {name: tuple(sorted(self.parts.hashes[name])) for name in self.parts.forget}
        return Forgotten(self.request.name, sets)

    @property
    def duplicates(self) -> Mapping[str, Any]:
        """What was found of copies, and what was done."""
        return self.leaks.describe()

    @property
    def duplicate_counts(self) -> Mapping[str, Mapping[str, int]]:
        """Copies by part and kind."""
        return self.leaks.found.counts()

    @property
    def holdout_protocol(self) -> str:
        """See `holdout_protocol`."""
        return holdout_protocol(self.request)

    @property
    def task_facts(self) -> Mapping[str, Any] | None:
        """What a record says of a zero-shot task; ``None`` for classification."""
        return settings_of(self.task, self.request.document["zero_shot"])

    # What is done.

    def aside(self, path: Path) -> AbstractContextManager[Callable[[], None]]:
        """Keep the original in a file meanwhile."""
        return set_aside(self.task.model, path)

    def scored(self, outcome: Outcome, *, folder: Path | None = None, stop: Stopped = never) -> dict[str, Scores]:
        """Score the original, the unlearned model and the reference, by name."""
        evaluator = Evaluator(self.task, self.reference, seed=self.request.seed)
        found = {
            ORIGINAL: evaluator.original,
            self.method: evaluator(saved(self.task, outcome.model), seconds=outcome.seconds),
        }
        return found if evaluator.reference is None else found | {REFERENCE: evaluator.reference}

    def rechecked(self, outcome: Outcome) -> tuple[Rechecked, ...]:
        """Ask both models about what earlier requests forgot."""
        parts = self.parts
        unseen = parts["holdout"] if "holdout" in parts else parts.get("validation")
        seed = self.request.seed
        return recheck(self.task.model, outcome.model, self.earlier, parts.sources, unseen, seed=seed)

    def write_beside(self, folder: Path, outcome: Outcome, scores: Mapping[str, Scores]) -> None:
        """Write the answers, example by example, and what the page shows of a zero-shot model."""
        write_answers(folder / ANSWERS, {name: found.answers for name, found in scores.items() if found.answers})
        if isinstance(self.task, ZeroShot):
            after: Any = saved(self.task, outcome.model)
            write_json(folder / ZERO_SHOT, zero_shot_facts(self.task, after))

    def changed(self, audit: Mapping[str, Any]) -> list[str]:
        """Name the model to start from, what it comes with, and parts of the data, where they are not as recorded."""
        found = []
        if self.before.about.get("processor") != audit["model"]["before"]["about"].get("processor"):
            found.append("its tokenizer or image processor")
        recorded, content = audit["data"]["parts"], self.parts.content
        differing = [n for n in recorded.keys() | content if recorded.get(n, {}).get("sha256") != content.get(n)]
        return [*found, *(f"the data of the {name} part" for name in sorted(differing))]

    def scored_again(self, folder: Path) -> Mapping[str, float]:
        """Return the scores of the model that a run left in its folder."""
        evaluator = Evaluator(self.task, self.reference, seed=self.request.seed)
        return evaluator(self.read_again(folder)).own

    def read_again(self, folder: Path) -> nn.Module:
        """Return the model that a run left in its folder, on the device of the task's, to be scored."""
        spec, device = ModelSpec(kind="run", name=str(folder)), device_of(self.task.model)
        if isinstance(self.task, ZeroShot):
            return self.task.classifier(load_towers(spec).model.to(device))
        return load_model(spec, self.sources.classes).model.to(device)


def holdout_protocol(request: Request) -> str:
    """Say in words which examples stand for unseen ones, and who read which of them."""
    data = request.data
    if data.holdout is None:
        held = "No unseen examples were held out for the scores."
    elif isinstance(data.holdout, SourceSpec):
        held = (
            "The holdout part is a data set of its own, which the model was not trained on according to the request."
        )
    else:
        held = "The holdout part is rows of the training data that were not trained on, according to the request."
    if isinstance(data.validation, SourceSpec):
        drawn = "The validation part is a data set of its own."
    elif data.holdout is None:
        drawn = "There is no validation part."
    else:
        drawn = (
            f"A share of {data.validation:g} of it, drawn at random in proportion to the classes by seed "
            f"{request.seed}, was taken away for validation."
        )
    return f"{held} {drawn} Methods may read the validation part; the holdout part is read for the scores alone."
