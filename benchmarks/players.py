"""Three classes to forget: is it better to give each a player of its own?

The digits network forgets classes 2, 5 and 8, which are equally many in the first case, and of which all, a third and
a tenth were in the training data in the second. `MUNBa()` bargains with two players (the union of the classes against
the rest) or with four, at the library's defaults otherwise. The union is also given the forget examples of three
players (batches of 96), and the four players a retaining one of power 3, so that no side differs by its share alone.

Run: python -m benchmarks.players [--seeds 0 1 2 3 4] [--out benchmarks/results/players.json]
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from amnesty import Classification, train, unlearn
from amnesty.bargaining import Nash
from amnesty.data import Classes, Examples, Fraction, load_digits, split
from amnesty.evaluation import Evaluator, Scores
from amnesty.methods import MUNBa
from amnesty.seeds import derive
from amnesty.studies.digits import RECIPE, TEST, DigitsNet, one_thread
from benchmarks._common import environment, save, where

FORGOTTEN = ("2", "5", "8")
SHARES: Mapping[str, tuple[float, float, float]] = {"equal": (1.0, 1.0, 1.0), "unequal": (1.0, 1 / 3, 1 / 10)}
SHOWN = ("forget_accuracy", "retain_accuracy", "holdout_accuracy", "membership_auc", "average_gap")

UNION: Mapping[str, MUNBa] = {
    "union, 2 players": MUNBa(),
    "union, 2 players, batches of 96": MUNBa(forget_batch_size=96),
}
EACH: Mapping[str, MUNBa] = {
    "each, 4 players": MUNBa(),
    "each, 4 players, retaining power 3": MUNBa(rule=Nash(power=(1.0, 1.0, 1.0, 3.0))),
}


def chosen(data: Examples, indices: np.ndarray) -> Examples:
    return Examples(data.images[indices], data.labels[indices], data.class_names)


def parts_of(case: str, seed: int) -> tuple[Examples, dict[str, Any], dict[str, Any]]:
    """Return the training data, the forget sets by name, and the other parts."""
    data = load_digits()
    test = TEST.select(data, np.arange(len(data)))
    rest = np.setdiff1d(np.arange(len(data)), test)
    validation = Fraction(0.1, derive(seed, "validation")).select(data, rest)
    seen = np.setdiff1d(rest, validation)
    random = np.random.default_rng(derive(seed, "shares"))
    for name, share in zip(FORGOTTEN, SHARES[case], strict=True):
        mine = seen[data.labels[seen].numpy() == int(name)]
        seen = np.setdiff1d(seen, random.permutation(mine)[round(share * len(mine)) :])
    training = chosen(data, seen)
    retain = split(training, Classes(FORGOTTEN), hashed=False).parts(training)["retain"]
    sets = {
        f"digit {name}": chosen(training, np.flatnonzero(training.labels.numpy() == int(name))) for name in FORGOTTEN
    }
    return training, sets, {"retain": retain, "validation": chosen(data, validation), "holdout": chosen(data, test)}


def run(case: str, seed: int) -> dict[str, tuple[Scores, dict[str, float]]]:
    """Return scores, and the accuracy on each forgotten class, by name of the variant."""
    training, sets, others = parts_of(case, seed)
    original = train(DigitsNet(), training, RECIPE, seed=derive(seed, "original"))
    union = np.flatnonzero(np.isin(training.labels.numpy(), [int(c) for c in FORGOTTEN]))
    tasks = {
        "union": Classification(original, forget=chosen(training, union), **others),
        "each": Classification(original, forget=sets, **others),
    }
    task = tasks["union"]
    retrained, again = (train(DigitsNet(), others["retain"], RECIPE, seed=derive(seed, name)) for name in "ab")
    evaluator = Evaluator(task, retrained, seed=seed)
    models = {"original": original, "retrained": retrained, "retrained again: the floor": again}
    for name, method in {**UNION, **EACH}.items():
        models[name] = unlearn(tasks[name.split(",")[0]], method, seed=derive(seed, "unlearn")).model
    found = {}
    for name, model in models.items():
        said = task.predict(model, "forget")
        right = (said.logits.argmax(dim=1) == said.labels).float()
        each = {c: right[said.labels == int(c)].mean().item() for c in FORGOTTEN}
        found[name] = evaluator(model), each
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with one_thread():
        for case in SHARES:
            for seed in options.seeds:
                for name, (scores, each) in run(case, seed).items():
                    rows.append({"case": case, "seed": seed, "name": name, "scores": scores.own, "each": each})
                print(f"{case}, seed {seed}: done", flush=True)
    ran = environment()
    print(f"\n{table(rows)}\n\nMean ± deviation over seeds {options.seeds}, percent. {where(ran)}")
    if options.out:
        save(options.out, rows=rows, seeds=options.seeds, environment=ran)


def table(rows: list[dict[str, Any]]) -> str:
    heads = (*SHOWN, *(f"digit {c}" for c in FORGOTTEN))
    lines = ["| | | " + " | ".join(heads) + " |", "|---" * (len(heads) + 2) + "|"]
    for case, name in dict.fromkeys((row["case"], row["name"]) for row in rows):
        mine = [row for row in rows if (row["case"], row["name"]) == (case, name)]
        cells = [spread([100 * row["scores"].get(key, 0.0) for row in mine]) for key in SHOWN]
        cells += [spread([100 * row["each"][c] for row in mine]) for c in FORGOTTEN]
        lines.append(f"| {case} | {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
