"""An image generator forgets a digit, or two: is it still drawn, and what became of the others?

Claim: `MUNBa()` as it is draws the forgotten digit in at most 2 % of its prompts; the other nine are read right in at
       least the original's share less two points, and their Frechet distance is at most 1.15 times the original's.

The models are those of `benchmarks._small_diffusion` (8 x 8 pixels, prompts such as "a photo of the digit three"). An
independent classifier of real digits judges 100 images of each prompt; the noise is the same for all models. The
anchor is the next digit. Settings of all methods but MUNBa are searched on a model of another seed: learning rates,
the weight of the sum, what moves. `retrained` is a U-Net that never met the digit, though its text tower knows the
word. The floor of the distance is that of real test digits. What holds of 8 x 8 pixels need not hold of photographs:
learning rates and distances do not carry over.

Every score is read from `cache/diffusion/quality`, so that a stopped run resumes; empty it after a change of the
library.

Run: python -m benchmarks.diffusion_quality [--seeds 0 1 2] [--out benchmarks/results/diffusion_quality.json]
     (`--search` prints what is searched)
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import amnesty
from amnesty.bargaining import Sum
from amnesty.data import Examples
from amnesty.methods import ESD, LUR, UCE, FineTune, Method, MUNBa, NegGradPlus, SalUn, Scissorhands
from amnesty.tasks.diffusion import Concept, Diffusion
from benchmarks._common import environment, save, where
from benchmarks._small_diffusion import CACHE, DIGITS, PROMPT, small_diffusion
from benchmarks._small_diffusion_judge import floor, scores
from tests import tiny_clip

FORGOTTEN = (("three",), ("three", "eight"))
SEARCH_SEED = 10
COLUMNS = {
    "unlearning_accuracy": "gone, %",
    "retained_accuracy": "others right, %",
    "fid_retained": "distance",
    "seconds": "seconds",
}
ADAM: dict[str, Any] = {"optimizer": "adam", "weight_decay": 0.0}
JOINT = {"batch_size": 96, "forget_batch_size": 32, "epochs": 2, "at_least": 60, "rounds": 1}

Run = tuple[dict[str, Any], Method]
"""Arguments of the task, and the method."""


def grid() -> dict[str, list[Run]]:
    """Return by name what is tried of each method."""
    moves: list[dict[str, Any]] = [{"train": "xattn"}, {"train": "full"}]
    sums = [
        (move, MUNBa(rule=Sum((weight, 1.0)), lr=lr, **ADAM, **JOINT))
        for move, lr in zip(moves, (1e-3, 3e-4), strict=True)
        for weight in (0.1, 0.3, 1.0, 3.0)
    ]
    return {
        "weighted sum": sums,
        "SalUn": [({"train": "full"}, SalUn(lr=lr, epochs=2, batch_size=64, **ADAM)) for lr in (1e-4, 3e-4, 1e-3)],
        "SHs": [
            ({"train": "full"}, Scissorhands(lr=1e-3, epochs=2, batch_size=96, trim=trim, **ADAM))
            for trim in (0.1, 0.01)
        ],
        "NegGrad+": [
            ({"train": "full"}, NegGradPlus(lr=lr, epochs=2, batch_size=96, retain_share=share, **ADAM))
            for lr, share in ((1e-4, 0.95), (3e-4, 0.99))
        ],
        "LUR": [({"train": "full"}, LUR(lr=lr, epochs=2, batch_size=96, trim=0.0, **ADAM)) for lr in (3e-4,)],
        "ESD": [
            ({"train": "xattn"}, ESD(lr=lr, steps=steps, batch_size=32, way=20))
            for lr, steps in ((1e-3, 20), (3e-4, 40))
        ],
        "UCE": [
            ({"train": "xattn"}, UCE(tokens=tokens, keep=keep)) for tokens in ("all", "last") for keep in (0.5, 50.0)
        ],
        "fine-tuning": [
            ({"train": "xattn"}, FineTune(lr=lr, epochs=2, batch_size=96, **ADAM)) for lr in (3e-4, 1e-3)
        ],
    }


FIXED: dict[str, Run] = {
    "MUNBa()": ({}, MUNBa()),
    "MUNBa(), loss of training": ({"retain_loss": "denoise"}, MUNBa()),
    "MUNBa(), all weights": ({"train": "full"}, MUNBa()),
    "MUNBa(), random others": ({"forget_loss": "random"}, MUNBa()),
    "MUNBa(), no prompt": ({"forget_loss": "null"}, MUNBa()),
    "MUNBa(), no images": ({"drawn": True}, MUNBa()),
}
UNION = "MUNBa(), as one player"


def task_of(seed: int, names: Sequence[str], union: bool = False, drawn: bool = False, **how: Any) -> Diffusion:
    """Return the request: the named digits become the next ones; ``drawn``: the original draws all images."""
    images, labels = tiny_clip.grey("train")
    rows = {digit: labels == DIGITS.index(digit) for digit in names}
    concepts = {}
    for digit in names:
        own = None if drawn else Examples(images[rows[digit]], labels[rows[digit]], DIGITS)
        concepts[digit] = Concept(PROMPT.format(digit), PROMPT.format(_anchor(digit, names)), own)
    kept = [digit for digit in DIGITS if digit not in names]
    rest = ~torch.stack(list(rows.values())).any(dim=0)
    retain: Any = Examples(images[rest], labels[rest], DIGITS)
    if drawn:
        retain = [PROMPT.format(digit) for digit in kept]
        how |= {"drawing": amnesty.Drawing(per_prompt=100, steps=20, guidance=1.0, batch_size=250)}
    captions = {k: PROMPT.format(digit) for k, digit in enumerate(DIGITS)}
    task = Diffusion(small_diffusion(seed), forget=concepts, retain=retain, captions=captions, **how)
    if union:
        task.sets = {}  # one player for the union; each image still has its own anchor
    return task


def _anchor(digit: str, names: Sequence[str]) -> str:
    following = DIGITS[DIGITS.index(digit) + 1 :] + DIGITS
    return next(other for other in following if other not in names)


def scored(seed: int, names: Sequence[str], how: dict[str, Any], method: Method) -> dict[str, float]:
    """Unlearn, draw and judge; or read what was found before."""
    key = hashlib.sha256(f"{seed} {names} {how} {method}".encode()).hexdigest()[:24]
    path = CACHE / "quality" / f"{key}.json"
    if not path.exists():
        outcome = amnesty.unlearn(task_of(seed, names, **how), method, seed=seed)
        model: Any = outcome.model
        drawing = dataclasses.replace(small_diffusion(seed), unet=model.plain())
        found = {**scores(drawing, names), "seconds": outcome.seconds, "steps": float(len(outcome.history))}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found), encoding="utf-8")
    read: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    return read


def searched(names: Sequence[str], tell: Callable[[str], object]) -> dict[str, Run]:
    """Return the best settings of each method, by what is drawn, what is lost, and a tenth of the distance."""
    before = scores(small_diffusion(SEARCH_SEED), names)
    found = {}
    for name, runs in grid().items():
        tried = []
        for how, method in runs:
            after = scored(SEARCH_SEED, names, how, method)
            lost = before["retained_accuracy"] - after["retained_accuracy"]
            cost = 1 - after["unlearning_accuracy"] + lost + 0.1 * after["fid_retained"] / before["fid_retained"]
            tried.append((cost, (how, method)))
            tell(f"{name} {how} {_settings(method)}: {_words(after)}")
        found[name] = min(tried, key=lambda one: one[0])[1]
    return found


def _settings(method: Method) -> dict[str, Any]:
    plain = type(method)()
    given = {field.name: getattr(method, field.name) for field in dataclasses.fields(method)}
    return {name: str(value) for name, value in given.items() if value != getattr(plain, name)}


def _words(found: dict[str, float]) -> str:
    return ", ".join(f"{name} {found[name]:.3f}" for name in COLUMNS if name in found)


def rows_of(
    names: Sequence[str], seeds: Sequence[int], best: dict[str, Run], tell: Callable[[str], object]
) -> dict[str, dict[str, list[float]]]:
    """Return the scores of every row by seed."""
    runs = {**FIXED, **best}
    if len(names) > 1:
        few = {name: runs[name] for name in ("MUNBa()", "weighted sum", "UCE")}
        runs = {UNION: ({"union": True}, MUNBa()), **few}
    found: dict[str, list[dict[str, float]]] = {}
    for seed in seeds:
        found.setdefault("original", []).append(scores(small_diffusion(seed), names))
        if len(names) == 1:
            found.setdefault("retrained", []).append(scores(small_diffusion(seed, without=names), names))
        for name, (how, method) in runs.items():
            found.setdefault(name, []).append(scored(seed, names, how, method))
            tell(f"seed {seed}, {name}: {_words(found[name][-1])}")
    return {name: {key: [one[key] for one in each if key in one] for key in COLUMNS} for name, each in found.items()}


def holds(rows: dict[str, dict[str, list[float]]]) -> bool:
    """Say whether the claim holds, of the means over seeds."""
    mine, before = ({k: statistics.fmean(v) for k, v in rows[name].items() if v} for name in ("MUNBa()", "original"))
    return (
        mine["unlearning_accuracy"] >= 0.98
        and mine["retained_accuracy"] >= before["retained_accuracy"] - 0.02
        and mine["fid_retained"] <= 1.15 * before["fid_retained"]
    )


def _cell(key: str, values: Sequence[float]) -> str:
    if not values:
        return ""
    scale, digits = (100, 1) if key.endswith("accuracy") else (1, 2 if key == "fid_retained" else 0)
    shown = [scale * value for value in values]
    spread = f" ± {statistics.stdev(shown):.{digits}f}" if len(shown) > 1 else ""
    return f"{statistics.fmean(shown):.{digits}f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--search", action="store_true", help="print what is searched")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    console, result = Console(), {}
    best = searched(FORGOTTEN[0], lambda text: print(text, flush=True) if options.search else None)
    for names in FORGOTTEN:
        rows = rows_of(names, options.seeds, best, lambda text: print(text, flush=True))
        floors = floor(names)
        table = Table(
            "model", *COLUMNS.values(), title=f"forget {', '.join(names)}; floor of the distance {floors:.2f}"
        )
        for name, row in rows.items():
            table.add_row(name, *(_cell(key, row[key]) for key in COLUMNS))
        console.print(table)
        console.print("The claim holds." if holds(rows) else "The claim does not hold.", where(environment()))
        result["-".join(names)] = {"floor": floors, "rows": rows}
    if options.out is not None:
        settings = {name: {**how, **_settings(method)} for name, (how, method) in best.items()}
        save(options.out, environment=environment(), seeds=options.seeds, settings=settings, **result)


if __name__ == "__main__":
    main()
