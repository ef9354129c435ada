"""How close do the methods come to retraining where there is something to forget?

A small residual network is over-fitted to 5,000 images of CIFAR-10 (no augmentation), then forgets a random tenth.
Each method's settings were chosen by `--search` on other images (5,000 to 10,000 of the training file, scored on
10,000 to 12,000); reported are the first 5,000, scored on the test file, over three seeds of data, training and
unlearning. Images 12,000 to 12,500 are the validation part, unseen data that a method may read. The floor is a second
retrained model against the first. Whatever was computed before is read from the cache, so a stopped run resumes.

Run: python -m benchmarks.cifar_quality [--search | --ablate | --time] [--seeds 0 1 2] [--only munba ...] [--out FILE]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import ConcatDataset

from amnesty import Classification, train, unlearn
from amnesty.data import Examples, Fraction, load_images, split
from amnesty.errors import ModelError, NonFiniteError
from amnesty.evaluation import GAP_PARTS, Also, Evaluator
from amnesty.files import write_json
from amnesty.methods import Method, MUNBa, Retrain
from amnesty.seeds import derive
from benchmarks._cifar_settings import ABLATIONS, METHODS, RECIPE, grid
from benchmarks._common import environment, save, where
from benchmarks._models import ResNet

DATA = Path(__file__).parent.parent.parent / "shared" / "data" / "cifar10"
CACHE = Path(__file__).parent / "cache" / "cifar"
SEARCH_SEEDS = (10, 11)


def network() -> nn.Module:
    return ResNet((16, 64, 128), blocks=1, stem_stride=2).to(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Case:
    """One seed: the task, what scores models on it, and what retraining took."""

    task: Classification
    evaluator: Evaluator
    seconds: float


def part(data: Examples, start: int, stop: int) -> Examples:
    return Examples(data.images[start:stop], data.labels[start:stop], data.class_names)


def case(seed: int, search: bool, also: Sequence[Also] = ()) -> Case:
    images = load_images(DATA, "train", limit=12500)
    seen = part(images, 5000, 10000) if search else part(images, 0, 5000)
    unseen = part(images, 10000, 12000) if search else load_images(DATA, "test")
    parts = split(seen, Fraction(0.1, derive(seed, "forget"))).parts(seen)
    names = {"forget": parts["forget"], "retain": parts["retain"]}
    where_to = CACHE / f"{'search' if search else 'report'}-{seed}"
    together = ConcatDataset([parts["forget"], parts["retain"]])
    models, seconds = {}, {}
    sets = {"original": together, "retrained": parts["retain"], "again": parts["retain"]}
    for name, data in sets.items():
        if name != "again" or not search:
            models[name], seconds[name] = trained(where_to / name, data, derive(seed, name))
    task = Classification(models["original"], **names, holdout=unseen, validation=part(images, 12000, 12500))
    evaluator = Evaluator(task, models["retrained"], second_reference=models.get("again"), also=also, seed=seed)
    return Case(task, evaluator, seconds["retrained"])


def trained(path: Path, data: Any, seed: int) -> tuple[nn.Module, float]:
    """Read a model from the cache, or train and store it; with the seconds that its training took."""
    model, note = network().eval(), path.with_suffix(".json")
    if not note.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        model = train(model, data, RECIPE, seed=seed)
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path.with_suffix(".safetensors"))
        write_json(note, {"seconds": time.perf_counter() - start})
    model.load_state_dict(load_file(path.with_suffix(".safetensors")))
    return model, json.loads(note.read_text())["seconds"]


def rows(seeds: list[int], methods: Mapping[str, Method], search: bool) -> Iterator[dict[str, Any]]:
    store = CACHE / ("search.jsonl" if search else "report.jsonl")
    CACHE.mkdir(parents=True, exist_ok=True)
    known = [json.loads(line) for line in store.read_text().splitlines()] if store.exists() else []
    for seed in seeds:
        found = case(seed, search)
        evaluator = found.evaluator
        assert evaluator.reference is not None
        fixed = {"original": evaluator.original, "retrained": evaluator.reference}
        fixed |= {} if evaluator.second_reference is None else {"retrained again": evaluator.second_reference}
        yield from ({"seed": seed, "name": name, "scores": scores.own} for name, scores in fixed.items())
        for name, method in methods.items():
            key = {"seed": seed, "name": name, "settings": repr(method), "recipe": repr(RECIPE)}
            row = next((r for r in known if r.items() >= key.items()), None)
            if row is None:
                row = key | measured(found, method, seed)
                with store.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            yield row


def measured(found: Case, method: Method, seed: int) -> dict[str, Any]:
    try:
        outcome = unlearn(found.task, method, seed=derive(seed, "unlearn"))
        scores = found.evaluator(outcome.model).own
    except (NonFiniteError, ModelError) as error:
        return {"scores": None, "share": None, "hessian": None, "error": str(error)}
    bends = [row["forget_hessian_share"] for row in outcome.history if "forget_hessian_share" in row]
    share = outcome.seconds / found.seconds
    return {"scores": scores, "share": share, "hessian": mean(bends) if bends else None, "error": None}


def time_shares(repeats: int = 3) -> None:
    """Print the time of methods as a share of retraining's, a tenth of whose epochs runs in turns with them."""
    found = case(0, search=True)
    tenth = Retrain(recipe=dataclasses.replace(RECIPE, epochs=RECIPE.epochs // 10), fresh=network)
    timed = {"MUNBa()": MUNBa(), "weighted sum, tuned": METHODS["weighted sum, tuned"]}
    seconds: dict[str, list[float]] = {name: [] for name in ("retrain", *timed)}
    for _ in range(repeats):
        for name, method in {"retrain": tenth, **timed}.items():
            seconds[name].append(unlearn(found.task, method).seconds)
    for name in timed:
        shares = [100 * mine / (10 * full) for mine, full in zip(seconds[name], seconds["retrain"], strict=True)]
        print(f"{name}: {spread(shares)} % of the retraining time, {repeats} pairs. {where(environment())}")


def table(found: list[dict[str, Any]]) -> str:
    """Write mean and deviation over the seeds, in percent, as a table for the docs, the smallest gap first."""
    heads = (*GAP_PARTS, "average gap", "time", "Hessian term")
    lines = ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    groups = {name: [row for row in found if row["name"] == name] for name in dict.fromkeys(r["name"] for r in found)}
    for name, mine in sorted(groups.items(), key=lambda item: _place(*item)):
        if any(row["scores"] is None for row in mine):
            lines.append(f"| {name} | destroyed |")
            continue
        cells = [spread([100 * row["scores"][key] for row in mine]) for key in (*GAP_PARTS, "average_gap")]
        for key in ("share", "hessian"):
            values = [100 * row[key] for row in mine if row.get(key) is not None]
            cells.append(f"{mean(values):.{0 if key == 'share' else 2}f} %" if values else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _place(name: str, rows: list[dict[str, Any]]) -> tuple[int, float]:
    fixed = ("original", "retrained", "retrained again")
    broken = any(row["scores"] is None for row in rows)
    gap = float("inf") if broken else mean(row["scores"]["average_gap"] for row in rows)
    return (fixed.index(name), 0.0) if name in fixed else (len(fixed), gap)


def spread(values: list[float]) -> str:
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--search", action="store_true", help="run the grid on the images for choosing settings")
    parser.add_argument("--ablate", action="store_true", help="change one thing at a time, on the same images")
    parser.add_argument("--time", action="store_true", help="measure shares of the retraining time, in turns")
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--only", nargs="+", help="names that start so")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if not DATA.exists():
        parser.exit(2, "cifar_quality: needs ../shared/data/cifar10 beside the checkout, which is missing.\n")
    if options.time:
        time_shares()
        return
    options.search |= options.ablate
    chosen = ABLATIONS if options.ablate else dict(grid()) if options.search else METHODS
    if options.only:
        chosen = {name: m for name, m in chosen.items() if name.startswith(tuple(options.only))}
    seeds = options.seeds or (list(SEARCH_SEEDS) if options.search else [0, 1, 2])
    found = []
    for row in rows(seeds, chosen, options.search):
        found.append(row)
        gap = "destroyed" if row["scores"] is None else f"{100 * row['scores']['average_gap']:.2f}"
        print(f"seed {row['seed']}  {row['name']:40} average gap {gap}", flush=True)
    ran = environment()
    print(f"\n{table(found)}\n\nMean ± deviation over seeds {seeds}, percent. {where(ran)}")
    if options.out:
        save(options.out, rows=found, recipe=repr(RECIPE), seeds=seeds, environment=ran)


if __name__ == "__main__":
    main()
