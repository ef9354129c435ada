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
    Classes,
    Examples,
    Fraction,
    Indices,
    content_hash,
    load_digits,
    mislabel,
    read_column,
    split,
)
from amnesty.errors import InvalidInputError
from amnesty.evaluation import Scores, evaluate
from amnesty.files import write_json, write_json_lines
from amnesty.methods import Method, Retrain
from amnesty.seeds import derive
from amnesty.studies.digits_settings import SETTINGS
from amnesty.tasks import Classification
from amnesty.training import Recipe, train
from amnesty.unlearning import Outcome, unlearn

Name = Literal["class", "random", "poisoned"]
NAMES: tuple[Name, ...] = get_args(Name)

FORGOTTEN_CLASS = "3"
FEATURED = "munba"
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


def run_scenario(
    chosen: Scenario,
    settings: Mapping[str, Method],
    seed: int = 0,
    original: nn.Module | None = None,
    tell: Tell = print,
) -> Result:
    """Train the original (unless given) and the retrained model, run every method of ``settings``, score all."""
    if original is None:
        tell(f"{chosen.title}: training the original")
        original = train(DigitsNet(), chosen.trained_on, RECIPE, seed=derive(seed, "original"))
    task = Classification(original, **chosen.parts)
    outcomes: dict[str, Outcome] = {}
    methods = {"retrain": Retrain(recipe=RECIPE, fresh=DigitsNet), **settings}
    for name, method in methods.items():
        tell(f"{chosen.title}: {method.about.title}")
        outcomes[name] = unlearn(task, method, seed=derive(seed, name))
    reference = outcomes["retrain"].model
    target = evaluate(task, reference, seed=seed)
    scores = {"original": evaluate(task, original, target, seed=seed)}
    for name, outcome in outcomes.items():
        scores[name] = evaluate(task, outcome.model, target, seconds=outcome.seconds, seed=seed)
    return Result(chosen, task, scores, outcomes, reference)


def run(out: Path, seed: int = 0, tell: Tell = print) -> list[Path]:
    """Run the three scenarios and write one folder each below ``out``: scores, history and examples.

    Returns:
        The folders.

    Raises:
        InvalidInputError: ``out`` is a file, or a folder that holds something else than a demonstration.
    """
    check_folder(out)
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
    """Write one scenario's folder and return it."""
    folder = out / result.scenario.name
    folder.mkdir(parents=True, exist_ok=True)
    write_json_lines(folder / "history.jsonl", result.outcomes[FEATURED].history)
    write_json(folder / "examples.json", {"method": FEATURED, "examples": _shown(result)})
    write_json(folder / "scores.json", _document(result, seed))
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
            "content": {part: content_hash(task.parts[part]) for part in counts},
        },
        "seed": seed,
        "reference": "retrain",
        "device": "cpu",
        "versions": {"amnesty": version("amnesty"), "torch": torch.__version__, "python": platform.python_version()},
        "methods": {name: dict(scores) for name, scores in result.scores.items()},
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
