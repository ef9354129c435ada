"""Settings for the demonstration's methods, searched on validation digits and never on those it reports.

Every setting of a grid is run on the tuning variant of the three scenarios (`amnesty.studies.digits.scenario`):
the quarter of the digits that every seed reports on is left out, and a fifth of the rest takes its place. A setting
is judged by its mean average gap to the retrained model.

Run: python -m benchmarks.digits_search [--methods munba finetune] [--seeds 100 101 102] [--out FILE]
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from amnesty.bargaining import Nash
from amnesty.errors import ModelError, NonFiniteError
from amnesty.evaluation import evaluate
from amnesty.methods import METHODS, Method, Retrain
from amnesty.seeds import derive
from amnesty.studies.digits import NAMES, RECIPE, DigitsNet, one_thread, scenario
from amnesty.tasks import Classification
from amnesty.training import train
from amnesty.unlearning import unlearn
from benchmarks._common import environment, save

GUESSING = 2.3026  # log 10: the cross-entropy of a guess among ten classes

GRIDS: Mapping[str, Mapping[str, Sequence[Any]]] = {
    "munba": {"reach": (0.07, 0.1, 0.14, 0.2), "at_least": (60,), "rule": (Nash(), Nash(length="fading"))},
    "finetune": {"lr": (0.03, 0.1), "epochs": (5, 10), "batch_size": (64,)},
    "gradient_ascent": {
        "lr": (1e-4, 3e-4, 1e-3, 3e-3),
        "epochs": (5,),
        "batch_size": (64,),
        "cap": (None, GUESSING),
        "batch_norm": ("eval", "train"),
    },
    "negative_gradient_plus": {
        "retain_share": (0.8, 0.9, 0.95, 0.99),
        "lr": (0.01, 0.05),
        "epochs": (5,),
        "batch_size": (64,),
        "cap": (GUESSING,),
        "batch_norm": ("eval", "retain_stats"),
    },
    "random_labels": {"lr": (0.003, 0.013, 0.05), "epochs": (5, 10), "batch_size": (64,), "exclude_true": (True,)},
}


def settings(name: str) -> Iterator[dict[str, Any]]:
    grid = GRIDS[name]
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def tasks(seeds: Sequence[int]) -> Iterator[tuple[str, int, Classification, Any]]:
    for seed, name in itertools.product(seeds, NAMES):
        chosen = scenario(name, seed, tuning=True)
        original = train(DigitsNet(), chosen.trained_on, RECIPE, seed=derive(seed, "original"))
        task = Classification(original, **chosen.parts)
        retrained = unlearn(task, Retrain(recipe=RECIPE, fresh=DigitsNet), seed=derive(seed, "retrain"))
        yield name, seed, task, evaluate(task, retrained.model, seed=seed)


def gap(task: Classification, method: Method, target: Any, seed: int) -> float:
    try:
        outcome = unlearn(task, method, seed=derive(seed, "search"))
        return evaluate(task, outcome.model, target, seed=seed)["average_gap"]
    except (NonFiniteError, ModelError):
        return 1.0  # a destroyed model is as far away as can be


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(GRIDS), choices=list(GRIDS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[100, 101])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    with one_thread():
        for scene, seed, task, target in tasks(options.seeds):
            for name in options.methods:
                for chosen in settings(name):
                    measured = gap(task, METHODS[name](**chosen), target, seed)
                    key = json.dumps(chosen, default=repr)
                    found.setdefault(name, {}).setdefault(scene, {}).setdefault(key, []).append(measured)
                print(f"{scene} seed {seed} {name}: done", flush=True)
    for name, scene in itertools.product(found, NAMES):
        ranked = sorted(found[name][scene].items(), key=lambda item: mean(item[1]))
        for key, gaps in ranked[:3]:
            print(f"{name:24} {scene:9} {100 * mean(gaps):6.2f} points  {key}")
    if options.out:
        save(options.out, seeds=options.seeds, average_gap=found, environment=environment())


if __name__ == "__main__":
    main()
