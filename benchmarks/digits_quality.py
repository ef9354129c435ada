"""The demonstration's numbers over several seeds, and the marks that they have to meet.

Claim: with its defaults MUNBa forgets a class (forget accuracy <= 1 %, retain >= 99 %, holdout of the other classes
within 1.5 points of retraining), a random tenth (average gap <= 2 points) and a poisoned batch (<= 15 % of the wrong
labels left, two thirds of the lost holdout accuracy regained); each the mean of three seeds.

Run: python -m benchmarks.digits_quality [--seeds 0 1 2] [--out benchmarks/results/digits_quality.json]
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, stdev

from amnesty.studies import digits
from benchmarks._common import environment, save, where

SHOWN = ("forget_accuracy", "retain_accuracy", "holdout_accuracy", "membership_auc", "average_gap")
Found = Mapping[str, Mapping[str, list[Mapping[str, float]]]]


def run(seeds: list[int]) -> dict[str, dict[str, list[Mapping[str, float]]]]:
    found: dict[str, dict[str, list[Mapping[str, float]]]] = {}
    with digits.one_thread():
        for seed in seeds:
            original = None
            for name in digits.NAMES:
                kept = original if name == "random" else None
                result = digits.run_scenario(
                    digits.scenario(name, seed), digits.SETTINGS[name], seed, kept, lambda _: None
                )
                original = result.task.model
                for method, scores in result.scores.items():
                    found.setdefault(name, {}).setdefault(method, []).append(scores)
            print(f"seed {seed}: done", flush=True)
    return found


def average(found: Found, scene: str, method: str, key: str) -> float:
    return mean(scores[key] for scores in found[scene][method])


def marks(found: Found) -> dict[str, tuple[float, bool]]:
    """Return each figure, in percent or points, and whether it meets its mark."""
    forget = 100 * average(found, "class", "munba", "forget_accuracy")
    retain = 100 * average(found, "class", "munba", "retain_accuracy")
    holdout = "holdout_accuracy"
    pairs = zip(found["class"]["munba"], found["class"]["retrain"], strict=True)
    away = 100 * mean(abs(mine[holdout] - theirs[holdout]) for mine, theirs in pairs)
    gap = 100 * average(found, "random", "munba", "average_gap")
    left = 100 * average(found, "poisoned", "munba", "forget_accuracy")
    cost = average(found, "poisoned", "retrain", holdout) - average(found, "poisoned", "original", holdout)
    regained = average(found, "poisoned", "munba", holdout) - average(found, "poisoned", "original", holdout)
    return {
        "class: forget accuracy <= 1 %": (forget, forget <= 1),
        "class: retain accuracy >= 99 %": (retain, retain >= 99),
        "class: holdout within 1.5 points of retraining": (away, away <= 1.5),
        "random: average gap <= 2 points": (gap, gap <= 2),
        "poisoned: wrong labels remembered <= 15 %": (left, left <= 15),
        "poisoned: share of the lost accuracy regained >= 66.7 %": (100 * regained / cost, regained >= 2 * cost / 3),
    }


def table(found: Found) -> str:
    lines = ["| | | " + " | ".join(SHOWN) + " | seconds |", "|---" * (len(SHOWN) + 3) + "|"]
    for scene, methods in found.items():
        for method, scores in methods.items():
            cells = [spread([100 * s[key] for s in scores]) for key in SHOWN]
            seconds = f"{mean(s['seconds'] for s in scores):.1f}" if "seconds" in scores[0] else ""
            lines.append(f"| {scene} | {method} | " + " | ".join(cells) + f" | {seconds} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = run(options.seeds)
    reached = marks(found)
    ran = environment()
    print(f"\n{table(found)}\n")
    for name, (value, met) in reached.items():
        print(f"{'met   ' if met else 'MISSED'}  {name}: {value:.2f}")
    print(f"\nMean ± deviation over seeds {options.seeds}, percent. {where(ran)}")
    if options.out:
        plain = {scene: {m: [s.own for s in scores] for m, scores in ms.items()} for scene, ms in found.items()}
        save(
            options.out,
            scores=plain,
            marks={k: v[0] for k, v in reached.items()},
            seeds=options.seeds,
            environment=ran,
        )


if __name__ == "__main__":
    main()
