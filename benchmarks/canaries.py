"""How many canaries does it take to tell a model that knows them by heart from one that never met them?

Claim: with 25 canaries among 1,200 training digits the interval of the membership AUC lies above 0.85 for the
       original and holds 0.5 for the retrained model, in all of 3 seeds; of ordinary digits the two overlap.
Run:   python -m benchmarks.canaries --out benchmarks/results/canaries.json
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from amnesty.evaluation import Evaluator
from amnesty.studies import digits
from amnesty.tasks import Classification
from benchmarks._common import environment, save, where

COUNTS = (10, 25, 50, 100)
SHOWN = ("canary_membership_auc", "membership_auc")


def measured(count: int, seed: int) -> dict[str, dict[str, float]]:
    """Return by model the AUC of canaries and of ordinary digits, with their intervals."""
    chosen, planted = digits.with_canaries(seed, count)
    original = digits.trained(chosen.trained_on, seed, "original")
    retrained = digits.trained(chosen.parts["retain"], seed, "retrain")
    evaluator = Evaluator(Classification(original, **chosen.parts), canaries=planted, seed=seed)
    found = {"original": evaluator.original, "retrained": evaluator(retrained)}
    return {
        name: {key + end: scores[key + end] for key in SHOWN for end in ("", "_low", "_high")}
        for name, scores in found.items()
    }


def cell(rows: Sequence[dict[str, dict[str, float]]], model: str, key: str) -> str:
    return ", ".join(
        f"{row[model][key]:.2f} [{row[model][key + '_low']:.2f}, {row[model][key + '_high']:.2f}]" for row in rows
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {count: [measured(count, seed) for seed in options.seeds] for count in COUNTS}
    print(f"| canaries | original, seeds {options.seeds} | retrained |\n|---|---|---|")
    for count, rows in found.items():
        print(f"| {count} | {cell(rows, 'original', SHOWN[0])} | {cell(rows, 'retrained', SHOWN[0])} |")
    ordinary = found[COUNTS[0]]
    print(f"| ordinary | {cell(ordinary, 'original', SHOWN[1])} | {cell(ordinary, 'retrained', SHOWN[1])} |")
    ran = environment()
    print(where(ran))
    if options.out:
        save(
            options.out,
            canaries={str(count): rows for count, rows in found.items()},
            seeds=options.seeds,
            environment=ran,
        )


if __name__ == "__main__":
    main()
