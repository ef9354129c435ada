"""Do the defaults land where a search by hand would?

Handwritten digits and 5,000 images of CIFAR-10, a random tenth and a whole class, a convolutional network and a
vision transformer: eight cases. For each, a grid of settings is scored on a seed and on images that are not reported
on (`--search` shows it); its best is then run beside the defaults, `MUNBa()` without any argument, on three other
seeds. The mark: the mean gap of the defaults is at most 1.5 times that of the searched setting. Models and scores are
read from the cache, so that a stopped run resumes.

Run: python -m benchmarks.zero_tuning [--search] [--cases digits-random-cnn ...] [--seeds 0 1 2] [--out FILE]
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import ConcatDataset

from amnesty import Classification, Recipe, train, unlearn
from amnesty.bargaining import Sum
from amnesty.data import Classes, Examples, Fraction, load_images, split
from amnesty.errors import ModelError, NonFiniteError
from amnesty.evaluation import Evaluator
from amnesty.methods import FineTune, Method, MUNBa, NegGradPlus, SuccessiveRandomLabels
from amnesty.seeds import derive, seeded
from amnesty.studies import digits
from benchmarks._common import environment, save, where
from benchmarks._models import Normalise, ResNet
from tests.vision import library

DATA = Path(__file__).parent.parent.parent / "shared" / "data" / "cifar10"
CACHE = Path(__file__).parent / "cache" / "zero"
SEARCH_SEED = 10
REPORTED = (0, 1, 2)
VIT = Recipe(optimizer="adamw", lr=2e-3, epochs=25, batch_size=128, weight_decay=0.01)
RECIPES = {
    ("digits", "cnn"): digits.RECIPE,
    ("digits", "vit"): Recipe(optimizer="adamw", lr=2e-3, epochs=30, batch_size=64, weight_decay=0.01),
    ("cifar", "cnn"): Recipe(lr=0.1, epochs=20, batch_size=128),
    ("cifar", "vit"): VIT,
}


@dataclass(frozen=True)
class Case:
    """Data, what is forgotten of it, and a network."""

    data: str
    request: str
    network: str

    @property
    def name(self) -> str:
        """Name it as the command line does."""
        return f"{self.data}-{self.request}-{self.network}"

    def make(self) -> nn.Module:
        """Return the network, untrained."""
        if self.network == "cnn":
            small = digits.DigitsNet()
            return small if self.data == "digits" else ResNet((16, 64, 128), blocks=1, stem_stride=2)
        size: dict[str, int] = {"img_size": 8, "patch_size": 2, "in_chans": 1}
        if self.data == "cifar":
            size = {"img_size": 32, "patch_size": 8, "in_chans": 3}
        body = transformer()(**size, num_classes=10, embed_dim=64, depth=4, num_heads=4)
        return body if self.data == "digits" else nn.Sequential(Normalise(), body)


CASES = {
    case.name: case
    for case in itertools.starmap(Case, itertools.product(("digits", "cifar"), ("random", "class"), ("cnn", "vit")))
}


@cache
def transformer() -> Any:
    """Return timm's vision transformer, with the method by which `amnesty.train` makes it anew."""
    base = library("timm.models.vision_transformer").VisionTransformer
    return type("Transformer", (base,), {"reset_parameters": lambda self: self.init_weights("")})


@cache
def images(name: str, limit: int | None) -> Examples:
    return load_images(DATA, name, limit=limit)


def part(data: Examples, start: int, stop: int) -> Examples:
    return Examples(data.images[start:stop], data.labels[start:stop], data.class_names)


def parts(case: Case, seed: int, search: bool) -> dict[str, Any]:
    if case.data == "digits":
        return dict(digits.scenario(case.request, seed, tuning=search).parts)  # type: ignore[arg-type]
    known = images("train", 12500)
    seen = part(known, 5000, 10000) if search else part(known, 0, 5000)
    unseen = part(known, 10000, 12000) if search else images("test", None)
    whole = Classes([(3 + seed) % 10])
    chosen = split(seen, Fraction(0.1, derive(seed, "forget")) if case.request == "random" else whole).parts(seen)
    rest = {"holdout": unseen, "validation": part(known, 12000, 12500)}
    return {"forget": chosen["forget"], "retain": chosen["retain"], **rest}


def prepared(case: Case, seed: int, search: bool) -> tuple[Classification, Evaluator]:
    found = parts(case, seed, search)
    together = ConcatDataset([found["forget"], found["retain"]])
    side = f"{'search' if search else 'report'}-{seed}"
    original = trained(case, f"{case.data}-{side}-original", together, seed, "original")
    retrained = trained(case, f"{case.data}-{case.request}-{side}-retrained", found["retain"], seed, "retrained")
    task = Classification(original, **found)
    return task, Evaluator(task, retrained, seed=seed)


def trained(case: Case, name: str, data: Any, seed: int, use: str) -> nn.Module:
    """Read a model from the cache, or train and store it."""
    path = CACHE / f"{name}-{case.network}.safetensors"
    with seeded(seed, torch.device("cpu")):
        model = case.make().eval()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        model = train(model, data, RECIPES[case.data, case.network], seed=derive(seed, use))
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)
    model.load_state_dict(load_file(path))
    return model


def grid() -> Iterator[tuple[str, Method]]:
    """What somebody would try by hand: a round of MUNBa, of a weighted sum, and what does well elsewhere."""
    for reach, (epochs, steps) in itertools.product((0.035, 0.07, 0.14, 0.28), ((2, 60), (4, 120))):
        yield f"MUNBa reach {reach} x {epochs}", MUNBa(reach=reach, epochs=epochs, at_least=steps, rounds=1)
    for weight, lr in ((0.1, 0.05), (0.1, 0.02), (0.3, 0.02), (1.0, 0.01)):
        yield f"sum {weight} lr {lr}", MUNBa(lr=lr, rule=Sum((weight, 1.0)))
    short: dict[str, Any] = {"epochs": 4, "batch_size": 64}
    for lr in (0.01, 0.03):
        yield f"SRL lr {lr}", SuccessiveRandomLabels(lr=lr, exclude_true=True, schedule="linear", **short)
    for share, lr in ((0.9, 0.03), (0.5, 0.03)):
        yield f"NG+ {share} lr {lr}", NegGradPlus(retain_share=share, lr=lr, cap=2.3, schedule="linear", **short)
    for lr in (0.03, 0.1):
        yield f"FT lr {lr}", FineTune(lr=lr, schedule="linear", **short)


def row(case: Case, seed: int, search: bool, name: str, method: Method | None) -> dict[str, Any]:
    """Score one run, or read its scores; the method ``None`` is the original."""
    store = CACHE / "rows.jsonl"
    key = {"case": case.name, "seed": seed, "search": search, "name": name, "settings": repr(method)}
    lines = store.read_text().splitlines() if store.exists() else []
    found = next((known for known in map(json.loads, lines) if known.items() >= key.items()), None)
    if found is not None:
        return found
    task, evaluator = ready(case, seed, search)
    if method is None:
        made = {"scores": evaluator.original.own, "seconds": 0.0, "rounds": []}
    else:
        made = measured(task, evaluator, method, seed)
    with store.open("a") as file:
        file.write(json.dumps(key | made) + "\n")
    return key | made


def measured(task: Classification, evaluator: Evaluator, method: Method, seed: int) -> dict[str, Any]:
    try:
        outcome = unlearn(task, method, seed=derive(seed, "unlearn"))
        rounds = [record for record in outcome.history if "round" in record]
        return {"scores": evaluator(outcome.model).own, "seconds": outcome.seconds, "rounds": rounds}
    except (NonFiniteError, ModelError) as error:  # settings that destroy the model are a finding too
        return {"scores": None, "error": str(error), "rounds": []}


@lru_cache(maxsize=1)
def ready(case: Case, seed: int, search: bool) -> tuple[Classification, Evaluator]:
    return prepared(case, seed, search)


def gap(found: Mapping[str, Any]) -> float:
    return 100.0 if found["scores"] is None else 100 * float(found["scores"]["average_gap"])


def study(case: Case, seeds: Sequence[int]) -> dict[str, Any]:
    """Search one case, then run its best setting and the defaults on other seeds."""
    settings = dict(grid())
    searched = {name: gap(row(case, SEARCH_SEED, True, name, method)) for name, method in settings.items()}
    own = {name: found for name, found in searched.items() if name.startswith("MUNBa")}
    best, best_own = min(searched, key=searched.__getitem__), min(own, key=own.__getitem__)
    reported: dict[str, Method | None] = {"original": None, "MUNBa()": MUNBa()}
    reported |= {"best of all": settings[best], "best of MUNBa": settings[best_own]}
    rows = {name: [row(case, seed, False, name, method) for seed in seeds] for name, method in reported.items()}
    gaps = {name: [gap(one) for one in mine] for name, mine in rows.items()}
    rivals = [mean(gaps["best of all"]), mean(gaps["best of MUNBa"])]
    return {
        "case": case.name,
        "searched": searched,
        "chosen": {"best of all": best, "best of MUNBa": best_own},
        "rows": rows,
        "gaps": gaps,
        "ratio": mean(gaps["MUNBa()"]) / min(rivals),
        "rounds": [len(one["rounds"]) for one in rows["MUNBa()"]],
    }


def spread(values: Sequence[float]) -> str:
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(REPORTED))
    parser.add_argument("--search", action="store_true", help="show every setting that was searched")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if not DATA.exists() and any(name.startswith("cifar") for name in options.cases):
        parser.exit(2, "zero_tuning: needs ../shared/data/cifar10 beside the checkout, which is missing.\n")
    print("| case | original | MUNBa() | rounds | best of MUNBa's grid | best of all | ratio |\n" + "|---" * 7 + "|")
    studies = []
    for name in options.cases:
        found = study(CASES[name], options.seeds)
        studies.append(found)
        cells = [spread(found["gaps"]["original"]), spread(found["gaps"]["MUNBa()"])]
        cells.append(", ".join(map(str, found["rounds"])))
        for which in ("best of MUNBa", "best of all"):
            cells.append(f"{spread(found['gaps'][which])} ({found['chosen'][which]})")
        print(f"| {name} | " + " | ".join(cells) + f" | {found['ratio']:.2f} |", flush=True)
        if options.search:
            for setting, value in sorted(found["searched"].items(), key=lambda item: item[1]):
                print(f"    {value:6.2f}  {setting}")
    ran = environment()
    print(f"\nAverage gap in points, mean ± deviation over seeds {options.seeds}. {where(ran)}")
    if options.out:
        save(options.out, studies=studies, seeds=options.seeds, environment=ran)


if __name__ == "__main__":
    main()
