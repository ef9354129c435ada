"""Cost of the models that per-example tests of forgetting need, and of training them in a stack.

Claim: 64 shadow models of the digits network, trained, unlearned with MUNBa and retrained take at most 5 minutes on
       two CPU cores.
Run:   python -m benchmarks.shadows --out benchmarks/results/shadows.json
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.data import Subset

from amnesty.data import Examples, Fraction
from amnesty.methods import MUNBa
from amnesty.seeds import derive
from amnesty.studies.digits import RECIPE, DigitsNet, scenario
from amnesty.studies.shadow_design import halves
from amnesty.studies.shadows import ShadowPool
from amnesty.training import Recipe, train
from amnesty.training.stacked import train_stacked
from benchmarks._common import environment, interleaved, save, spread, summary, where

MARK_MINUTES = 5.0
FULL = 64
TARGETS = Fraction(0.1, derive(0, "targets"))
STAGES = {"trained": "original", "unlearned": MUNBa(), "retrained": "retrained"}
STACKS = (4, 16, 32)
BRIEF = Recipe(lr=RECIPE.lr, epochs=1, batch_size=RECIPE.batch_size)


def measure_pool(folder: Path, shadows: int, workers: int) -> dict[str, Any]:
    """Make a pool and return its size, and of each stage the wall-clock seconds and those of a model."""
    parts = scenario("random")
    data = parts.trained_on
    unseen = {"validation": parts.parts["validation"], "evaluated": parts.parts["holdout"]}
    targets = TARGETS.select(data, torch.arange(len(data)).numpy())
    options = {"shadows": shadows, "workers": workers, "engine": "processes"}
    stages, start = {}, time.perf_counter()
    pool = ShadowPool(folder, data, DigitsNet, RECIPE, targets, **options, **unseen)
    for name, of in STAGES.items():
        begun = time.perf_counter()
        answers = pool.answers(of)
        stages[name] = {
            "seconds": time.perf_counter() - begun,
            "seconds_per_model": summary(answers.seconds.tolist()),
            "accuracy_pool": float(answers.correct[:, : len(data)].mean()),
            "accuracy_unseen": float(answers.correct[:, len(data) :].mean()),
        }
    return {
        "shadows": shadows,
        "workers": workers,
        "examples": len(data),
        "targets": len(targets),
        "seconds": time.perf_counter() - start,
        "stages": stages,
    }


def measure_stacks(data: Examples, repeats: int, device: str) -> list[dict[str, Any]]:
    """Return milliseconds of one step of one model, trained alone and in stacks of several sizes."""
    design = halves(data.labels.numpy(), range(100), max(STACKS))
    # Members equal in number, so that they make one stack.
    members = [each.nonzero()[0][: len(data) // 2] for each in design.trained]
    steps = BRIEF.epochs * -(-len(members[0]) // BRIEF.batch_size)
    model, images, labels = DigitsNet().to(device), data.images.to(device), data.labels.to(device)
    moved = Examples(images, labels)

    def together(m: int) -> object:
        return train_stacked(model, images, labels, members[:m], BRIEF, seeds=range(m), chunk=m)

    cases = {m: (lambda m=m: together(m)) for m in STACKS}
    cases[1] = lambda: train(model, Subset(moved, members[0].tolist()), BRIEF)
    seconds = interleaved(cases, repeats, warm_up=1, device=device)
    return [
        {
            "models": m,
            "engine": "stacked" if m > 1 else "loop",
            "milliseconds_per_model_step": summary([1e3 * s / m / steps for s in seconds[m]]),
        }
        for m in sorted(cases)
    ]


def show(pool: dict[str, Any], stacks: list[dict[str, Any]]) -> None:
    """Print both tables."""
    console = Console(width=110)
    table = Table("stage", "wall s", "s per model", "accuracy on pool", "on unseen digits")
    for name, found in pool["stages"].items():
        each = spread(found["seconds_per_model"])
        accuracies = (f"{found[key]:.3f}" for key in ("accuracy_pool", "accuracy_unseen"))
        table.add_row(name, f"{found['seconds']:.1f}", each, *accuracies)
    console.print(table)
    table = Table("engine", "models", "ms per model and step")
    for row in stacks:
        table.add_row(row["engine"], str(row["models"]), spread(row["milliseconds_per_model_step"]))
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shadows", type=int, default=FULL)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5, help="of the stacks")
    parser.add_argument("--device", default="cpu", help="of the stacks")
    parser.add_argument("--folder", type=Path, help="keep the pool there; nothing of it may be there yet")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.folder and options.folder.exists():
        parser.error(f"{options.folder} exists: what is in a pool already is not computed, and takes no time.")
    torch.set_num_threads(1)
    found_at = environment(options.device)
    with tempfile.TemporaryDirectory() as scratch:
        pool = measure_pool(options.folder or Path(scratch) / "pool", options.shadows, options.workers)
    stacks = measure_stacks(scenario("random").trained_on, options.repeats, options.device)
    show(pool, stacks)
    minutes = pool["seconds"] / 60
    verdict = ("met" if minutes <= MARK_MINUTES else "missed") if options.shadows == FULL else "not tested"
    print(
        f"{options.shadows} shadow models took {minutes:.2f} minutes with {options.workers} workers; mark "
        f"{MARK_MINUTES} minutes for {FULL}: {verdict}. {where(found_at)}."
    )
    if options.out:
        save(options.out, mark_minutes=MARK_MINUTES, pool=pool, stacks=stacks, environment=found_at)


if __name__ == "__main__":
    main()
