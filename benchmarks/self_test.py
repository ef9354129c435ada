"""Every measure on models whose place is known, over seeds: which tell a retrained model from an original at all?

Claim: of the measures that need no retrained model, none prefers the retrained model to both the original and a
       destroyed one in every seed; the distances to a retrained model do. See docs/evaluation.md.
Run:   python -m benchmarks.self_test --out benchmarks/results/self_test.json
       (digits: 2 minutes; CIFAR-10 with --cifar reads the models that `benchmarks.cifar_quality` keeps)
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean

import torch

from amnesty.evaluation import ALSO, MEASURES, Checked, Evaluator, self_test
from amnesty.evaluation.selftest import MODELS
from amnesty.studies import digits
from amnesty.tasks import Classification
from benchmarks._common import environment, save, where


def digits_tests(seeds: Sequence[int]) -> Iterator[tuple[Checked, ...]]:
    for seed in seeds:
        chosen, planted = digits.with_canaries(seed)
        sets = {"original": chosen.trained_on, "retrain": chosen.parts["retain"]}
        original = digits.trained(sets["original"], seed, "original")
        retrained = [digits.trained(sets["retrain"], seed, use) for use in ("retrain", "retrain_again")]
        task = Classification(original, **chosen.parts)
        yield self_test(
            Evaluator(task, retrained[0], second_reference=retrained[1], canaries=planted, also=ALSO, seed=seed)
        )
        print(f"digits, seed {seed}: done", flush=True)


def cifar_tests(seeds: Sequence[int]) -> Iterator[tuple[Checked, ...]]:
    from benchmarks import cifar_quality

    for seed in seeds:
        yield self_test(cifar_quality.case(seed, search=False, also=["teachers"]).evaluator)
        print(f"CIFAR-10, seed {seed}: done", flush=True)


def summary(tests: Sequence[tuple[Checked, ...]]) -> dict[str, dict[str, object]]:
    """Return for each measure that all seeds have: mean values, and in how many seeds it saw what."""
    by_key: dict[str, list[Checked]] = {}
    for test in tests:
        for one in test:
            by_key.setdefault(one.measure.key, []).append(one)
    return {
        key: {
            "values": {name: mean(one.values[name] for one in by_key[key]) for name in MODELS},
            "floor": mean(one.floor for one in by_key[key]),
            "resolution": sum(one.resolution for one in by_key[key]),
            "fooled_by": {n: sum(n in one.fooled_by for one in by_key[key]) for n in ("original", "destroyed")},
            "seeds": len(by_key[key]),
        }
        for key in MEASURES
        if len(by_key.get(key, ())) == len(tests)
    }


def table(found: Mapping[str, Mapping[str, object]]) -> str:
    heads = ["measure", *MODELS, "floor", "told apart", "fooled by original", "by destroyed"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for key, row in found.items():
        values: Mapping[str, float] = row["values"]  # type: ignore[assignment]
        fooled: Mapping[str, int] = row["fooled_by"]  # type: ignore[assignment]
        numbers = [f"{values[name]:.3f}" for name in MODELS] + [f"{row['floor']:.3f}"]
        counts = [f"{count}/{row['seeds']}" for count in (row["resolution"], *fooled.values())]
        lines.append("| " + " | ".join([f"`{key}`", *numbers, *counts]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--cifar", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {"digits": summary(list(digits_tests(options.seeds)))}
    if options.cifar:
        found["cifar"] = summary(list(cifar_tests(options.seeds)))
    ran = environment()
    for name, rows in found.items():
        print(f"\n{name}, means of seeds {options.seeds}\n\n{table(rows)}\n")
    print(where(ran))
    if options.out:
        save(options.out, tests=found, seeds=options.seeds, environment=ran)


if __name__ == "__main__":
    main()
