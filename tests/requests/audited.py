"""Small real runs with their records: a network that knows 60 examples by heart, asked to forget some."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn
from torch.utils.data import Subset

import amnesty
from amnesty.data import Examples, Indices, split
from amnesty.evaluation import Evaluator, write_answers
from amnesty.files import write_json_lines, write_text
from amnesty.requests.audit import AuditFacts, model_facts, part_facts, write_audit
from amnesty.requests.chain import Earlier, read_earlier
from amnesty.requests.forgotten import Forgotten, find_hashes, hashes_of, write_forgotten
from amnesty.requests.request import SignSpec
from amnesty.requests.signing import sign, signature_facts
from amnesty.studies.runs import write_scores
from amnesty.weights import load_weights, save_weights

RECIPE = amnesty.Recipe(epochs=40, batch_size=32, weight_decay=0.0)


def forgotten_by(name, sets):
    return Forgotten(name, {one: tuple(sorted(hashes_of(source))) for one, source in sets.items()})


def examples(count: int, seed: int) -> Examples:
    """Noise with labels by chance: what is known of it was learnt by heart."""
    draw = torch.Generator().manual_seed(seed)
    return Examples(torch.randn(count, 1, 6, 6, generator=draw), torch.randint(3, (count,), generator=draw))


@cache
def training() -> Examples:
    return examples(90, seed=1)


@cache
def unseen() -> Examples:
    return examples(90, seed=2)


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 64), nn.ReLU(), nn.Linear(64, 3))


@cache
def original() -> nn.Module:
    return amnesty.train(network(), training(), RECIPE)


def run(
    folder: Path,
    chosen: range = range(20),
    name: str = "first",
    start: Path | None = None,
    method: Any = None,
    sign_with: Path | None = None,
    changed: Mapping[str, Any] | None = None,
) -> Path:
    """Make a run's folder: forget ``chosen`` of the training data, from the original or from the run in ``start``."""
    folder.mkdir(parents=True)
    earlier = Earlier() if start is None else read_earlier(start)
    model, files = network(), []
    if start is None:
        model.load_state_dict(original().state_dict())
    else:
        files = [start / "model.safetensors"]
        load_weights(files[0], model)
    before = model_facts(files, model.state_dict(), {"kind": "import"})
    parts: dict[str, Any] = dict(split(training(), Indices(list(chosen))).parts(training()))
    parts["holdout"] = unseen()
    rest = {part: parts[part] for part in ("retain", "holdout")}
    for part, gone in find_hashes(rest, earlier.hashes).items():
        parts[part] = Subset(rest[part], np.setdiff1d(np.arange(len(rest[part])), gone).tolist())
    task = amnesty.Classification(model, **parts)
    method = method or amnesty.methods.MUNBa(epochs=2)
    outcome = amnesty.unlearn(task, method)
    evaluator = Evaluator(task)
    scores = {"original": evaluator.original, "munba": evaluator(outcome.model, seconds=outcome.seconds)}

    request = {
        "name": name,
        "seed": 0,
        "model": {"import": "audited:network"} if start is None else {"run": str(start)},
    }
    write_text(folder / "request.yaml", yaml.safe_dump(request))
    save_weights(folder / "model.safetensors", outcome.model)
    write_json_lines(folder / "history.jsonl", [{"step": n} for n, _ in enumerate(outcome.history, 1)])
    write_answers(folder / "answers.parquet", {key: found.answers for key, found in scores.items()})
    write_scores(folder, {"schema": 1, "reference": None, "seed": 0, "forgotten_classes": []}, scores)
    write_text(folder / "report.html", "<p>A page</p>\n")
    write_forgotten(folder, forgotten_by(name, {"forget": parts["forget"]}), earlier.forgotten)
    spec = None if sign_with is None else SignSpec(key=sign_with)
    facts = AuditFacts(
        name=name,
        asked={"forget": {"indices": list(chosen)}},
        model_before=before,
        method="munba",
        settings={"epochs": 2},
        tuned=True,
        seed=0,
        device="cpu",
        precision="float32",
        started=datetime(2026, 1, 1, tzinfo=UTC),
        ended=datetime(2026, 1, 1, 1, tzinfo=UTC),
        seconds=outcome.seconds,
        sittings=1,
        parts=part_facts(parts),
        holdout_protocol="90 examples of their own; no validation part; the method read none of them.",
        findings=scores["munba"].findings,
        chain=earlier.chain,
        signature=signature_facts(spec),
    )
    write_audit(folder, dataclasses.replace(facts, **(changed or {})))
    if spec is not None:
        sign(folder, spec)
    return folder


def copied(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target, symlinks=True)
    return target


def flipped(path: Path, position: int, bit: int = 0) -> None:
    """Change one bit of a file, in place."""
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 1 << bit]))


def every_flip(path: Path, positions: Iterable[int]) -> Iterator[int]:
    """Yield each position while one bit of the byte there is changed; afterwards the file is as it was."""
    for position in positions:
        flipped(path, position, position % 7)
        yield position
        flipped(path, position, position % 7)


def write_keys(folder: Path, name: str = "key") -> tuple[Path, Path]:
    """Write a private and a public key, in PEM."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo))
    return private, public
