"""Time of all population membership tests, beside the support vector machine that published tables rest on.

Claim: 50,000 forgotten and 50,000 unseen examples, 10 classes: features, all tests and the threshold attack with its
       20 splits take at most 2 s on one CPU thread. Beside it the published machine, of 10,000 + 10,000 examples.
Run:   python -m benchmarks.membership --out benchmarks/results/membership.json
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from amnesty.evaluation.compat import svc_compat
from amnesty.evaluation.features import features
from amnesty.evaluation.membership import matched_features, membership_tests, strongest
from amnesty.evaluation.threshold_attack import membership_advantages
from amnesty.tasks import Predictions
from benchmarks._common import environment, interleaved, save, spread, summary, where

MARK_SECONDS = 2.0
EXAMPLES = 50_000
CLASSES = 10
PUBLISHED = 10_000
PUBLISHED_FORGET = 4_500
THREADS = 1


def answers(n: int, margin: float, seed: int) -> Predictions:
    """Return answers as a trained classifier gives them: mostly right, confidences crowded near 1."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % CLASSES
    logits = torch.randn(n, CLASSES, generator=draw)
    logits[torch.arange(n), labels] += margin + 4 * torch.randn(n, generator=draw)
    return Predictions(logits, labels)


def everything(forget: Predictions, retain: Predictions, unseen: Predictions) -> None:
    """Run what the claim is about."""
    membership_tests(forget, unseen, seed=0, rates=(0.01, 0.001))
    membership_advantages(forget, retain, unseen, seed=0)


def steps() -> dict[str, Callable[[], object]]:
    """Return what is timed in turns, by name; the first is the claim, the others are its parts and additions."""
    forget, retain, unseen = (answers(EXAMPLES, margin, seed) for seed, margin in enumerate((10.0, 12.0, 9.5)))
    parts = forget, retain, unseen
    return {
        "all tests and the threshold attack": partial(everything, *parts),
        "features of 100,000 examples": lambda: [features(p.logits, p.labels) for p in (forget, unseen)],
        "tests, 5 features": partial(membership_tests, forget, unseen, seed=0, rates=(0.01, 0.001)),
        "threshold attack, 5 features": partial(membership_advantages, *parts, seed=0),
        "threshold attack by class": partial(membership_advantages, *parts, seed=0, per_class=True),
    }


def slow_steps() -> dict[str, Callable[[], object]]:
    """Return what is timed once or a few times only."""
    retain, test, forget = (
        answers(n, margin, 10 + seed)
        for seed, (n, margin) in enumerate([(PUBLISHED, 12.0), (PUBLISHED, 9.5), (PUBLISHED_FORGET, 10.0)])
    )
    sides = matched_features(answers(EXAMPLES, 10.0, 0), answers(EXAMPLES, 9.5, 2), seed=0)
    found: dict[str, Callable[[], object]] = {"strongest, 1,000 permutations": partial(strongest, *sides, seed=0)}
    for feature in ("confidence", "entropy"):
        for exact in (False, True):
            name = f"published machine, {feature}, {'exact' if exact else 'on the grid'}"
            found[name] = partial(svc_compat, retain, test, forget, feature, exact=exact)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--slow-repeats", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    found_at = environment()
    seconds = interleaved(steps(), options.repeats, warm_up=1)
    seconds |= interleaved(slow_steps(), options.slow_repeats, warm_up=0)
    results = {name: summary(values) for name, values in seconds.items()}

    table = Table("what", "seconds")
    for name, found in results.items():
        table.add_row(name, spread(found))
    Console(width=110).print(table)
    whole = results["all tests and the threshold attack"]
    verdict = "met" if whole["median"] <= MARK_SECONDS else "missed"
    print(
        f"All in {spread(whole)} s; mark {MARK_SECONDS} s: {verdict}. Median of {options.repeats}; {where(found_at)}."
    )
    if options.out:
        save(options.out, mark_seconds=MARK_SECONDS, seconds=results, environment=found_at)


if __name__ == "__main__":
    main()
