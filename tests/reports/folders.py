"""Synthetic folders of runs, with plausible numbers."""

import json
import math
from copy import deepcopy
from pathlib import Path

import numpy as np

METHODS = {
    "original": {"forget_accuracy": 1.0, "retain_accuracy": 1.0, "holdout_accuracy": 0.95, "membership_auc": 0.6},
    "retrain": {"forget_accuracy": 0.0, "retain_accuracy": 1.0, "holdout_accuracy": 0.96, "membership_auc": 0.5},
    "munba": {"forget_accuracy": 0.01, "retain_accuracy": 0.9973, "holdout_accuracy": 0.95, "membership_auc": 0.51},
    "finetune": {"forget_accuracy": 0.9, "retain_accuracy": 1.0, "holdout_accuracy": 0.96, "membership_auc": 0.56},
    "brand_new_method": {"forget_accuracy": 0.0, "retain_accuracy": 0.6, "holdout_accuracy": 0.5},
}
INTERVALS = {
    "original": {"membership_auc_low": 0.58, "membership_auc_high": 0.62},
    "retrain": {"membership_auc_low": 0.48, "membership_auc_high": 0.52},
    "munba": {"membership_auc_low": 0.50, "membership_auc_high": 0.52},
}
MORE = {
    "original": {"average_gap": 0.275, "seconds": 11.0, "membership_advantage": 0.2},
    "retrain": {"average_gap": 0.0, "seconds": 10.0, "membership_advantage": -0.01},
    "munba": {"average_gap": 0.0082, "seconds": 2.5, "membership_advantage": 0.01},
    "finetune": {"average_gap": 0.24, "seconds": 2.0},
    "brand_new_method": {"average_gap": 0.287, "seconds": 1.0},
}


def scores(**changes):
    methods = {name: METHODS[name] | MORE[name] | INTERVALS.get(name, {}) for name in METHODS}
    content = {
        "schema": 1,
        "scenario": {
            "name": "class",
            "title": "Forget one class",
            "asked": "Forget every 3.",
            "setting": "A small network.",
            "counts": {"forget": 146, "retain": 1100, "holdout": 449},
        },
        "seed": 0,
        "reference": "retrain",
        "device": "cpu",
        "versions": {"torch": "2.9.0"},
        "methods": methods,
    }
    return deepcopy(content | changes)


def history(steps=40):
    return [
        {
            "step": t + 1,
            "epoch": t // 10 + 1,
            "forget_loss": None if t % 7 == 6 else 2 + math.exp(-t / 10),
            "retain_loss": 0.1 + 0.01 * (t % 3),
            "cosine": None if t % 7 == 6 else math.sin(t) / 2,
            "stationary": t == 3,
        }
        for t in range(steps)
    ]


def examples(count=3, shape=(8, 8), wrong=False):
    pixels = np.random.default_rng(0).integers(0, 256, (count, *shape))
    listed = [
        {
            "image": image.tolist(),
            "label": "7" if wrong else "3",
            "true_label": "3",
            "before": {"label": "7" if wrong else "3", "confidence": 0.99},
            "after": {"label": "3" if wrong else "8", "confidence": 0.41},
            "reference": {"label": "3" if wrong else "8", "confidence": None},
        }
        for image in pixels
    ]
    return {"examples": listed, "method": "munba"}


def write(folder: Path, content=None, steps=None, shown=None) -> Path:
    """A scenario's folder; history and examples only where given."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scores.json").write_text(json.dumps(scores() if content is None else content))
    if steps is not None:
        (folder / "history.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    if shown is not None:
        (folder / "examples.json").write_text(json.dumps(shown))
    return folder
