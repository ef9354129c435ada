"""The demonstration: three deletion requests on scikit-learn's handwritten digits."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import nn

from amnesty.data import (
    Canaries,
    Classes,
    Examples,
    Fraction,
    Indices,
    content_hash,
    load_digits,
    mislabel,
    plant_canaries,
    read_column,
    split,
)
from amnesty.errors import InvalidInputError
from amnesty.evaluation import Evaluator, Scores, check_parquet
from amnesty.files import write_json, write_json_lines
from amnesty.methods import Method, Retrain
from amnesty.seeds import derive
from amnesty.studies.digits_settings import SETTINGS
from amnesty.studies.runs import write_run
from amnesty.tasks import Classification, Source
from amnesty.training import Recipe, train
from amnesty.unlearning import Outcome, unlearn

Name = Literal["class", "random", "poisoned"]
NAMES: tuple[Name, ...] = get_args(Name)

CANARIES = 100
FORGOTTEN_CLASS = "3"
FEATURED = "munba"
REFERENCE, FLOOR = "retrain", "retrain_again"
RECIPE = Recipe(lr=0.1, epochs=20, batch_size=64)
POISON_SHARE = 0.1
TEST = Fraction(0.25, derive(0, "test"))  # the same quarter for every seed, so that no seed tunes on another's test
SHOWN = 18

Tell = Callable[[str], None]


class DigitsNet(nn.Sequential):
    """A small convolutional network with batch norm for 8 x 8 digits: 23,000 parameters, logits of 10 classes."""

    def __init__(self) -> None:
        super().__init__(
            *_block(1, 16),
            *_block(16, 32),
            nn.MaxPool2d(2),
            *_block(32, 64),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(64, 10),
        )


def _block(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return (nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


@dataclass(frozen=True)
class Scenario:
    """One request: what was asked in words, and the parts of the data it means.

    Attributes:
        name: also of the folder. title, asked: for people.
        trained_on: what the original model learnt, wrong labels included.
        parts: as `amnesty.Classification` takes them.
    """

    name: Name
    title: str
    asked: str
    trained_on: Examples
    parts: Mapping[str, Any]


def scenario(name: Name, seed: int = 0, tuning: bool = False) -> Scenario:
    """Return a scenario; the seed draws the validation digits, the forget set and the wrong labels.

    One quarter of the digits, the same for every seed, is held out for the scores, a tenth of the others is unseen
    data that methods may read (validation), and the model is trained on the rest. With ``tuning`` that quarter is
    left out altogether, and a fifth of the others takes its place: settings are chosen there.

    Raises:
        InvalidInputError: ``name`` is unknown.
    """
    if name not in NAMES:
        raise InvalidInputError(f"`name` must be one of {', '.join(NAMES)}, found {name!r}.")
    training, test = _two(load_digits(), TEST)
    if tuning:
        training, test = _two(training, Fraction(0.2, derive(seed, "tuning")))
    training, validation = _two(training, Fraction(0.1, derive(seed, "validation")))
    make = {"class": _class, "random": _random, "poisoned": _poisoned}[name]
    return make(training, {"holdout": test, "validation": validation}, seed)


def _class(training: Examples, unseen: Mapping[str, Examples], seed: int) -> Scenario:
    parts = split(training, Classes([FORGOTTEN_CLASS])).parts(training)
    asked = f"Forget every handwritten {FORGOTTEN_CLASS}: {len(parts['forget'])} images, a whole class."
    return Scenario("class", "Forget one class", asked, training, {**_seen(parts), **unseen})


def _random(training: Examples, unseen: Mapping[str, Examples], seed: int) -> Scenario:
    parts = split(training, Fraction(0.1, derive(seed, "forget"))).parts(training)
    asked = f"Forget {len(parts['forget'])} images, a random tenth, as when some people withdraw their data."
    return Scenario("random", "Forget a random tenth", asked, training, {**_seen(parts), **unseen})


def _poisoned(training: Examples, unseen: Mapping[str, Examples], seed: int) -> Scenario:
    chosen = Fraction(POISON_SHARE, derive(seed, "poison")).select(training, np.arange(len(training)))
    labels = training.labels.clone()
    labels[chosen] = mislabel(training.labels[chosen], classes=10, seed=seed)
    poisoned = training.relabelled(labels)
    parts = split(poisoned, Indices(chosen.tolist())).parts(poisoned)
    asked = f"Forget a poisoned batch: {len(chosen)} training images had been given a wrong label."
    # Only unseen digits with wrong labels drawn alike are like the forgotten ones.
    validation, nonmembers = (
        data.relabelled(mislabel(data.labels, classes=10, seed=derive(seed, part)))
        for part, data in (("validation", unseen["validation"]), ("nonmembers", unseen["holdout"]))
    )
    rest = {"holdout": unseen["holdout"], "validation": validation, "nonmembers": nonmembers}
    return Scenario("poisoned", "Forget a poisoned batch", asked, poisoned, _seen(parts) | rest)


def empty_task(name: str, seed: int = 0) -> Classification:
    """Return the task of a scenario with an untrained model, to be given weights.

    Raises:
        InvalidInputError: there is no such scenario.
    """
    if name not in NAMES:
        raise InvalidInputError(f"The demonstration has no scenario {name!r}; it has {', '.join(NAMES)}.")
    return Classification(DigitsNet().eval(), **scenario(name, seed).parts)


def trained(data: Source, seed: int, use: str) -> nn.Module:
    """Train a network of the demonstration, with a seed of its own for each ``use``."""
    return train(DigitsNet(), data, RECIPE, seed=derive(seed, use))


def with_canaries(seed: int = 0, count: int = CANARIES) -> tuple[Scenario, Canaries]:
    """Return the request to forget a random tenth, and canaries that were planted before training, to forget as well.

    Ordinary digits are recognised by a model that never met them, so that a membership test on them shows next to
    nothing; canaries show whether single examples are remembered.
    """
    training, test = _two(load_digits(), TEST)
    training, validation = _two(training, Fraction(0.1, derive(seed, "validation")))
    planted = plant_canaries(training, test, count, classes=10, seed=seed)
    ordinary = np.setdiff1d(np.arange(len(training)), planted.indices)
    tenth = Fraction(0.1, derive(seed, "forget")).select(training, ordinary)
    forget = np.sort(np.concatenate([planted.indices, tenth]))
    trained_on = training.relabelled(torch.from_numpy(read_column(planted.training, "label")))
    parts = split(trained_on, Indices(forget.tolist())).parts(trained_on)
    asked = f"Forget {len(tenth)} images, a random tenth, and {count} planted canaries with wrong labels."
    unseen = {"holdout": test, "validation": validation}
    return Scenario("random", "A tenth, and canaries", asked, trained_on, _seen(parts) | unseen), planted


def _two(data: Examples, chosen: Fraction) -> tuple[Examples, Examples]:
    second = chosen.select(data, np.arange(len(data)))
    first = np.setdiff1d(np.arange(len(data)), second)
    both = (Examples(data.images[i], data.labels[i], data.class_names) for i in (first, second))
    return next(both), next(both)


def _seen(parts: Mapping[str, Any]) -> dict[str, Any]:
    return {"forget": parts["forget"], "retain": parts["retain"]}


@dataclass(frozen=True)
class Result:
    """What one scenario gave: scores by method, outcomes by method, and the models around them."""

    scenario: Scenario
    task: Classification
    scores: Mapping[str, Scores]
    outcomes: Mapping[str, Outcome]
    reference: nn.Module

    @property
    def models(self) -> dict[str, nn.Module]:
        """The original and what every method made of it, by name."""
        return {"original": self.task.model} | {name: outcome.model for name, outcome in self.outcomes.items()}


def run_scenario(
    chosen: Scenario,
    settings: Mapping[str, Method],
    seed: int = 0,
    original: nn.Module | None = None,
    tell: Tell = print,
) -> Result:
    """Train the original (unless given) and two retrained models, run every method of ``settings``, score all."""
    if original is None:
        tell(f"{chosen.title}: training the original")
        original = trained(chosen.trained_on, seed, "original")
    task = Classification(original, **chosen.parts)
    outcomes: dict[str, Outcome] = {}
    retrain = Retrain(recipe=RECIPE, fresh=DigitsNet)
    methods = {REFERENCE: retrain, FLOOR: retrain, **settings}
    for name, method in methods.items():
        tell(f"{chosen.title}: {method.about.title}")
        outcomes[name] = unlearn(task, method, seed=derive(seed, name))
    reference, again = outcomes[REFERENCE], outcomes[FLOOR]
    evaluator = Evaluator(
        task, reference.model, second_reference=again.model, reference_seconds=reference.seconds, seed=seed
    )
    scores = {"original": evaluator.original}
    for name, outcome in outcomes.items():
        scores[name] = evaluator(outcome.model, seconds=outcome.seconds)
    return Result(chosen, task, scores, outcomes, reference.model)


def run(out: Path, seed: int = 0, tell: Tell = print) -> list[Path]:
    """Run the three scenarios and write one folder each below ``out``: scores, history and examples.

    Returns:
        The folders.

    Raises:
        InvalidInputError: ``out`` is a file, or a folder that holds something else than a demonstration.
    """
    check_folder(out)
    check_parquet()
    original: nn.Module | None = None
    results = []
    with one_thread():
        for name in NAMES:
            chosen = scenario(name, seed)
            # The first two requests concern the same original; the poisoned model is one of its own.
            results.append(run_scenario(chosen, SETTINGS[name], seed, original if name == "random" else None, tell))
            original = results[-1].task.model
    # Written together, so that a run that is stopped leaves no mixture of two.
    return [write(result, out, seed) for result in results]


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: with tensors this small more threads wait for each other, on a busy machine for long.

    It also makes the numbers independent of how many cores there are.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def check_folder(out: Path) -> None:
    """Raise `InvalidInputError` unless ``out`` can be written to and holds nothing but a demonstration; make it."""
    if out.exists() and not out.is_dir():
        raise InvalidInputError(f"`out` must be a folder, but {out} is a file.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise InvalidInputError(f"`out` must be a folder that can be written to: {error}") from error
    known = (*NAMES, "report.html")
    strange = sorted(p.name for p in out.iterdir() if p.name not in known and not p.name.startswith("."))
    if strange:
        raise InvalidInputError(f"`out` must be empty or an earlier demonstration, but {out} holds {strange[0]!r}.")


def write(result: Result, out: Path, seed: int) -> Path:
    """Write one scenario's folder and return it; see `amnesty.studies.runs`."""
    folder = out / result.scenario.name
    folder.mkdir(parents=True, exist_ok=True)
    write_json_lines(folder / "history.jsonl", result.outcomes[FEATURED].history)
    write_json(folder / "examples.json", {"method": FEATURED, "examples": _shown(result)})
    write_run(folder, _document(result, seed), result.scores, result.models)
    return folder


def _document(result: Result, seed: int) -> dict[str, Any]:
    task, chosen = result.task, result.scenario
    counts = {part: len(task.labels(part)) for part in ("forget", "retain", "holdout")}
    parameters = sum(p.numel() for p in task.model.parameters())
    return {
        "schema": 1,
        "scenario": {
            "name": chosen.name,
            "title": chosen.title,
            "order": NAMES.index(chosen.name),
            "asked": chosen.asked,
            "setting": f"A convolutional network of {parameters:,} parameters on scikit-learn's 8 x 8 digits, seed "
            f"{seed}. MUNBa runs with the library's defaults; the settings of the other methods were searched "
            "without the unseen digits reported here (benchmarks/digits_search.py).",
            "counts": counts,
            "content": {part: content_hash(task.parts[part]) for part in task.parts if part != "validation"},
        },
        "study": "digits",
        "seed": seed,
        "reference": REFERENCE,
        "floor": FLOOR,
        "forgotten_classes": list(task.forgotten_classes),
        "device": "cpu",
        "versions": {"amnesty": version("amnesty"), "torch": torch.__version__, "python": platform.python_version()},
    }


def _shown(result: Result) -> list[dict[str, Any]]:
    task = result.task
    names = task.class_names
    source = task.parts["forget"]
    true = read_column(source, "true_label") if "nonmembers" in task.parts else task.labels("forget").numpy()
    models = {"before": task.model, "after": result.outcomes[FEATURED].model, "reference": result.reference}
    said = {key: task.predict(model, "forget").logits.softmax(dim=1) for key, model in models.items()}
    found = []
    for i in range(min(SHOWN, len(true))):
        image, label = source[i]  # type: ignore[index]
        answers = {
            key: {"label": names[int(p[i].argmax())], "confidence": round(float(p[i].max()), 4)}
            for key, p in said.items()
        }
        pixels = (image[0] * 255).round().to(torch.int64).tolist()
        found.append({"image": pixels, "label": names[int(label)], "true_label": names[int(true[i])], **answers})
    return found
