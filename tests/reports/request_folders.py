"""Folders of requests' runs, made up: answers drawn from normal margins, and the scores that follow from them."""

import json
import math
from functools import cache
from pathlib import Path

import numpy as np

from amnesty.evaluation import Answers, rescored, write_answers

HASH = "0123456789abcdef" * 4
FACTS = {
    "name": "user-7",
    "asked": "the examples whose user_id is 7",
    "forgotten": 200,
    "counts": {"forget": 200, "retain": 1800, "validation": 300, "holdout": 300},
    "method": "munba",
    "settings": {"epochs": 5, "rule": {"nash": {"length": "fading"}}, "lr": None},
    "tuned": False,
    "self_tuned": True,
    "seed": 3,
    "device": "cpu",
    "precision": "float32",
    "seconds": 12.5,
    "sittings": 2,
    "started": "2031-02-03T04:05:06Z",
    "ended": "2031-02-03T04:05:20Z",
    "model_before": {"sha256": HASH},
    "model_after": {"sha256": HASH[::-1]},
    "versions": {"amnesty": "0.1.0", "torch": "2.13.0"},
    "duplicates": {"action": "move", "counts": {"retain": {"exact": 2, "near_pixels": 1}, "holdout": {"exact": 1}}},
    "chain": [],
    "rechecked": [],
    "holdout_protocol": "300 of the 600 examples of test.parquet; the other half was read by the method.",
    "warnings": [],
}
LATER = {
    "chain": [{"name": "user-3", "audit": HASH, "forgotten": 50, "time": "2031-01-01T00:00:00Z"}],
    "rechecked": [
        {"name": "user-3", "answer": "not detected", "reason": "AUC 0.50 [0.45, 0.55]"},
        {"name": "user-1", "answer": "not at hand", "reason": "none of its examples are in the data"},
    ],
}


def answers(shift, wrong=0.02, seed=0, classes=4):
    """Answers of a model that is surer of what it has to forget than of unseen examples by ``shift`` nats."""
    random = np.random.default_rng(seed)
    found = {}
    for part, count, more in (("forget", 200, shift), ("retain", 600, 4.0), ("holdout", 300, 0.0)):
        label = np.arange(count) % classes
        margin = random.normal(2.0 + more, 2.0, count)
        predicted = np.where(margin > 0, label, (label + 1) % classes)
        found[part] = Answers(label, predicted, margin, np.exp(-np.abs(margin)), np.exp(-margin / 2))
    return found


def history(steps=40, players=("forget", "retain")):
    """Steps of a negotiation, and a note after every tenth: a round of the stopping rule."""
    lines = []
    for t in range(steps):
        line = {"step": len(lines) + 1, "epoch": t // 10 + 1, "lr": 0.1, "length": 0.5, "stationary": False}
        for at, player in enumerate(players):
            line |= {f"{player}_loss": math.exp(-t / 10) + at, f"{player}_norm": 1.0 + t, f"{player}_weight": 0.5}
        lines.append(line | {"cosine": math.sin(t) / 2})
        if t % 10 == 9:
            number = t // 10 + 1
            lines.append(
                {"step": len(lines) + 1, "epoch": number, "round": number, "distance": 0.4 / number, "done": 0}
            )
    return lines


@cache
def measured(after, reference):
    """Answers, and the text of the scores.json that follows from them; ``after`` is the unlearned model's shift."""
    models = {"original": answers(3.0), "munba": answers(after, seed=1)}
    models |= {"reference": answers(0.0, seed=2)} if reference else {}
    found = rescored(models, {"munba": {"seconds": 12.5}}, reference="reference" if reference else None, seed=3)
    document = {"schema": 1, "seed": 3, "reference": "reference" if reference else None}
    return models, json.dumps(document | {"methods": {name: scores.own for name, scores in found.items()}})


def write(folder: Path, facts=None, after=0.0, reference=False, lines=None, request="name: user-7\n") -> Path:
    """A run's folder without its page; the original is surer of the forget set by 3 nats, the unlearned one less."""
    folder.mkdir(parents=True, exist_ok=True)
    models, scores = measured(after, reference)
    (folder / "scores.json").write_text(scores)
    write_answers(folder / "answers.parquet", models)
    lines = history() if lines is None else lines
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "forgotten.json").write_text(json.dumps([HASH] * 3))
    (folder / "request.yaml").write_text(request)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "run.json").write_text(json.dumps({"schema": 1, **FACTS, **(facts or {})}))
    return folder
