"""Does a method keep the promises that all methods make? For ours, and for one of your own."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from amnesty.data import Classes, Examples, Fraction, Indices, Selector, load_digits, split
from amnesty.errors import AmnestyError, InterruptedRunError, InvalidInputError
from amnesty.methods import Method
from amnesty.methods.base import PARTS
from amnesty.seeds import derive, generator, seeded
from amnesty.tasks import Classification
from amnesty.training import Checkpoints
from amnesty.unlearning import Outcome, unlearn
from amnesty.weights import is_norm

MakeModel = Callable[[], nn.Module]
CLASS = "3"


class ContractError(AmnestyError, AssertionError):
    """A method breaks promises that every method makes; the message lists all of them."""


@dataclass(frozen=True)
class Refusal:
    """A method declined, before it began, to work on a model or under a circumstance.

    Attributes:
        model: name of the model. promise: what was tried. reason: the method's message.
    """

    model: str
    promise: str
    reason: str


def check_method(
    method: Method, models: Mapping[str, MakeModel] | None = None, promises: Sequence[str] | None = None
) -> list[Refusal]:
    """Run ``method`` on small requests about handwritten digits and check what every method promises.

    The weights change, in a copy alone; they are finite; flags, modes, hooks and names are as before; one seed gives
    one result to the bit and leaves the caller's random generators; only the parts of the data that `About` names
    are read; frozen parameters and masked coordinates keep their bits under weight decay and momentum; a forget set
    larger than the retain set works; every step is told; it stops and goes on to the same bits; see `PROMISES`.

    Args:
        method: with settings that make a run short.
        models: name -> function that makes a classifier of ten classes for inputs of shape [B, 1, 8, 8]; by default a
            CNN with batch norm, an MLP, and a transformer.
        promises: names of those in `PROMISES` to check; by default all.

    Returns:
        What the method refused with an `InvalidInputError` before it began. That is its right, and it is up to you
        whether it is what you meant.

    Raises:
        ContractError: promises are broken, or the method refused everything.

    Example:
        >>> from amnesty.methods import FineTune
        >>> check_method(FineTune(epochs=1), promises=["it changes a copy"])
        []
    """
    refusals, broken, tried = [], [], 0
    for model, make in (models or MODELS).items():
        for promise in promises or PROMISES:
            tried += 1
            case = Case(method, make)
            try:
                broken += [f"{model}, {promise}: {fault}" for fault in PROMISES[promise](case)]
            except InvalidInputError as error:
                refusals.append(Refusal(model, promise, str(error)))
                if case.steps:
                    broken.append(f"{model}, {promise}: it refused only after {case.steps} steps: {error}")
            except Exception as error:  # whatever a method may raise is a broken promise
                broken.append(f"{model}, {promise}: it raised {type(error).__name__}: {error}")
    if len(refusals) == tried:
        broken.append(f"it refuses everything: {refusals[0].reason}")
    if broken:
        raise ContractError(f"{type(method).__name__} breaks {len(broken)} promises:\n- " + "\n- ".join(broken))
    return refusals


@dataclass
class Case:
    """A method and a model, and how to run the one on the other."""

    method: Method
    make: MakeModel
    steps: int = 0
    seen: list[int] = field(default_factory=list)

    def task(
        self, request: str = "", model: nn.Module | None = None, wrap: Callable[[Any], Any] = lambda data: data
    ) -> Classification:
        """Return the request ``"class"``, ``"random"`` or ``"large"``; by default the one that the method is for."""
        request = request or ("class" if "class" in self.method.about.needs else "random")
        training, validation, holdout = _digits()
        requests: dict[str, Selector] = {
            "class": Classes([CLASS]),
            "random": Fraction(0.1),
            "large": Indices(range(150)),
        }
        chosen = requests[request]
        if request == "large" and "class" in self.method.about.needs:
            chosen = Classes([str(c) for c in range(8)])
        seen = split(training, chosen, hashed=False).parts(training)
        parts = {"forget": seen["forget"], "retain": seen["retain"], "validation": validation, "holdout": holdout}
        wrapped = {name: wrap(data) for name, data in parts.items()}
        return Classification(model or _trained(self.make), **wrapped, duplicates="keep")

    def run(self, task: Classification, seed: int = 0, **options: Any) -> Outcome:
        """Unlearn, counting the steps."""

        def watch(record: Any, total: int) -> None:
            self.steps += 1
            self.seen.append(total)

        return unlearn(task, self.method, seed=seed, progress=watch, **options)


def _changes_a_copy(case: Case) -> Iterator[str]:
    requests = ("class",) if "class" in case.method.about.needs else ("random", "class")
    for request in requests:
        task = case.task(request)
        model = task.model
        first = next(model.children(), model).train()  # some mode other than the usual
        before, flags, modes = _state(model), _flags(model), [m.training for m in model.modules()]
        outcome = case.run(task)
        after = _state(outcome.model)
        if not _same(_state(model), before):
            yield f"the caller's model changed ({request})"
        if _flags(model) != flags or [m.training for m in model.modules()] != modes or not first.training:
            yield f"the caller's model has other flags or modes ({request})"
        if any(p.grad is not None for p in (*model.parameters(), *outcome.model.parameters())):
            yield f"gradients were left behind ({request})"
        if _same(after, before):
            yield f"nothing changed in the student ({request})"
        if any(not v.isfinite().all() for v in after.values() if v.is_floating_point()):
            yield f"the student's weights are not finite ({request})"
        if {n: v.shape for n, v in after.items()} != {n: v.shape for n, v in before.items()}:
            yield f"the student has other parameters or buffers than the original ({request})"
        if any(m.training for m in outcome.model.modules()):
            yield f"the student is not in evaluation mode ({request})"
        if not {"recipe"} & set(case.method.about.needs) and _flags(outcome.model) != flags:
            yield f"the student's parameters have other `requires_grad` flags ({request})"
        if _hooks(outcome.model) != _hooks(model):
            yield f"hooks were left on the student ({request})"
        task.check_model(outcome.model)


def _repeats(case: Case) -> Iterator[str]:
    case.task()  # what is imported for the first time may draw random numbers
    random.seed(5), np.random.seed(5)
    states = random.getstate(), _numpy_state(), torch.get_rng_state()
    first, second = (_state(case.run(case.task(), seed=1).model) for _ in range(2))
    if not _same(first, second):
        yield "one seed gave two results"
    if random.getstate() != states[0] or _numpy_state() != states[1]:
        yield "the caller's generators (random, NumPy) moved"
    if not torch.equal(torch.get_rng_state(), states[2]):
        yield "the caller's generator (torch) moved"


def _reads(case: Case) -> Iterator[str]:
    task = case.task(wrap=_Watched)
    task.check()
    for part in task.parts.values():
        part.reads = 0  # type: ignore[union-attr]
    case.run(task)
    read = {name for name, part in task.parts.items() if part.reads}  # type: ignore[union-attr]
    about = case.method.about
    if read - {*about.needs, *about.uses}:
        yield f"it read the parts {sorted(read - {*about.needs, *about.uses})}, which `about` does not name"
    if {*about.needs} & {*PARTS} - read:
        yield f"it did not read the parts {sorted({*about.needs} & {*PARTS} - read)}, which `about` says it needs"


def _large(case: Case) -> Iterator[str]:
    task = case.task("large")
    if not _finite(case.run(task).model):
        yield "the student's weights are not finite"


def _keeps_frozen(case: Case) -> Iterator[str]:
    if "recipe" in case.method.about.needs:
        return  # it trains a new model, with the flags that it was made with
    model = copy.deepcopy(_trained(case.make))
    owners = [m for m in model.modules() if list(m.parameters(recurse=False))]
    for module in owners[: len(owners) // 2]:
        for p in module.parameters(recurse=False):
            p.requires_grad_(False)
    before = _state(model)
    held = {n for n, p in model.named_parameters() if not p.requires_grad}
    for name, module in model.named_modules():
        own = list(module.parameters(recurse=False))
        if is_norm(module) and own and not any(p.requires_grad for p in own):
            held |= {f"{name}.{n}" for n, _ in module.named_buffers(recurse=False)}
    after = _state(case.run(case.task(model=model)).model)
    moved = sorted(n for n in held if not torch.equal(after[n], before[n]))
    if moved:
        yield f"frozen {moved[0]!r} and {len(moved) - 1} more changed"
    if all(torch.equal(after[n], before[n]) for n in before if n not in held):
        yield "nothing that may move has moved"


def _keeps_masks(case: Case) -> Iterator[str]:
    task = case.task()
    before = _state(task.model)
    draw = generator(3, "masks")
    masks = {n: torch.rand(p.shape, generator=draw) < 0.5 for n, p in task.model.named_parameters()}
    after = _state(case.run(task, masks=masks).model)
    moved = [n for n, mask in masks.items() if not torch.equal(after[n][~mask], before[n][~mask])]
    if moved:
        yield f"masked coordinates of {moved[0]!r} changed"
    if all(torch.equal(after[n], before[n]) for n in masks):
        yield "nothing that may move has moved"


def _tells(case: Case) -> Iterator[str]:
    outcome = case.run(case.task())
    if not outcome.history or case.steps != len(outcome.history):
        yield f"{len(outcome.history)} steps are in the history, {case.steps} were told"
    if case.seen and case.seen[-1] != case.steps:
        yield f"the last step was number {case.steps} of {case.seen[-1]}"
    if [record["step"] for record in outcome.history] != list(range(1, len(outcome.history) + 1)):
        yield "the history's steps are not numbered from 1"
    if not outcome.seconds > 0:
        yield "no time was measured"


def _resumes(case: Case) -> Iterator[str]:
    with TemporaryDirectory() as folder:
        found = _sitting(case, folder, 1)
        whole = case.run(case.task(), seed=1)
        for steps in (*2 * [len(whole.history) // 3 + 1], None):
            found = found or _sitting(case, folder, steps)
        again = _sitting(case, folder)  # of nothing but what was saved
        for outcome, when in ((found, "stopped and resumed"), (again, "resumed after its end")):
            if outcome is None or not _same(_state(outcome.model), _state(whole.model)):
                yield f"{when}, it does not end in the same bits"
            elif outcome.history != whole.history:
                yield f"{when}, it tells another history"
            for note in () if outcome is None else outcome.notes:
                yield f"{when}: {note}"


def _sitting(case: Case, folder: str, steps: int | None = None) -> Outcome | None:
    """Go on with the run in ``folder``, for so many steps; return ``None`` if they were not enough."""
    last = None if steps is None else case.steps + steps
    saved = Checkpoints(
        Path(folder),
        minutes=None,
        resume=True,
        stop=lambda: last is not None and case.steps >= last,
        tell=lambda text: None,
    )
    try:
        return case.run(case.task(), seed=1, checkpoints=saved)
    except InterruptedRunError:
        return None


PROMISES: Mapping[str, Callable[[Case], Iterator[str]]] = {
    "it changes a copy": _changes_a_copy,
    "one seed, one result": _repeats,
    "it reads what it says": _reads,
    "a large forget set": _large,
    "frozen parameters stay": _keeps_frozen,
    "masks hold": _keeps_masks,
    "it tells every step": _tells,
    "it resumes to the same bits": _resumes,
}
"""What every method promises: name -> what is checked."""


class _Watched(Dataset[Any]):
    """Remembers how often it was read."""

    def __init__(self, data: Any) -> None:
        self.data, self.reads = data, 0

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        self.reads += 1
        return self.data[index]


class _Attention(nn.Module):
    """A transformer over the rows of an image, with a class token that no module resets."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 16))
        self.embed = nn.Linear(8, 16)
        self.layers = nn.Sequential(*(nn.TransformerEncoderLayer(16, 2, 32, 0.1, batch_first=True) for _ in range(2)))
        self.head = nn.Linear(16, 10)

    def forward(self, images: Tensor) -> Tensor:
        rows = self.embed(images[:, 0])
        found: Tensor = self.head(self.layers(torch.cat([self.token.expand(len(images), -1, -1), rows], dim=1))[:, 0])
        return found


def _cnn() -> nn.Module:
    blocks = [(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU()) for i, o in ((1, 8), (8, 16))]
    return nn.Sequential(*blocks[0], nn.MaxPool2d(2), *blocks[1], nn.Dropout(0.1), nn.Flatten(), nn.Linear(256, 10))


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 24), nn.Tanh(), nn.Linear(24, 10))


MODELS: Mapping[str, MakeModel] = {"CNN with batch norm": _cnn, "MLP": _mlp, "transformer": _Attention}
"""What `check_method` runs on by default."""


@cache
def _digits() -> tuple[Examples, Examples, Examples]:
    data = load_digits()
    ends = ((0, 220), (220, 280), (280, 340))
    first, second, third = (Examples(data.images[i:j], data.labels[i:j], data.class_names) for i, j in ends)
    return first, second, third


def _trained(make: MakeModel) -> nn.Module:
    return copy.deepcopy(_trained_once(make))


@cache
def _trained_once(make: MakeModel) -> nn.Module:
    data = _digits()[0]
    images, labels = data[list(range(len(data)))]
    with seeded(derive(0, "contract"), torch.device("cpu")):
        model = make()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(10):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    model.zero_grad()
    return model.eval()


def _numpy_state() -> list[int]:
    found: Any = np.random.get_state()
    return [*found[1].tolist(), found[2]]


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


def _finite(model: nn.Module) -> bool:
    return all(bool(value.isfinite().all()) for value in model.state_dict().values())


def _flags(model: nn.Module) -> list[bool]:
    return [p.requires_grad for p in model.parameters()]


def _hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules())
