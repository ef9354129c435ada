"""Models that are there and cannot be used, under requests that are right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.requests.bad_input_cases import Case, Touch, cut, knowing_network, mine, right, spoilt_weights, write

PICKLE = right(model="model: {import: 'mine.py:network', weights: m.pt}")
UNTRAINED = right(model="model: {import: 'mine.py:network'}")


def saved(content: Any, *, old: bool = False) -> Callable[[Path], None]:
    """Return what writes m.pt with ``torch.save``, by ``old`` as it did before it wrote archives."""
    return lambda folder: torch.save(content, folder / "m.pt", _use_new_zipfile_serialization=not old)


def other_network(body: str) -> Callable[[Path], None]:
    """Return what puts other code into the function that makes the network."""
    return mine("    return nn.Sequential(nn.Flatten(), nn.Linear(16, classes, bias=bias))", f"    {body}")


MODELS: dict[str, Case] = {
    "safetensors cut short": Case(("m.safetensors", "cut short"), spoil=cut("m.safetensors", 150)),
    "safetensors cut short in its head": Case(("m.safetensors", "cut short"), spoil=cut("m.safetensors", 20)),
    "an empty weights file": Case(("m.safetensors", "empty"), spoil=cut("m.safetensors", 0)),
    "safetensors that claim to be huge": Case(
        ("m.safetensors", "damaged"), spoil=write("m.safetensors", b"\xff" * 7 + b"\x7f{}")
    ),
    "text for weights": Case(("m.safetensors", "damaged"), spoil=write("m.safetensors", "weights: none\n")),
    "text for a pickle": Case(("m.pt", "neither"), PICKLE, write("m.pt", "weights: none\n")),
    "a pickle with code": Case(("m.pt", "run code", "save_file"), PICKLE, saved({"0.weight": Touch()})),
    "an old pickle with code": Case(("m.pt", "run code"), PICKLE, saved({"0.weight": Touch()}, old=True)),
    "a whole pickled model": Case(("m.pt", "run code", "state_dict"), PICKLE, saved(knowing_network())),
    "a pickle cut short": Case(
        ("m.pt", "cut short"), PICKLE, lambda folder: (saved({"a": torch.ones(99)})(folder), cut("m.pt", 500)(folder))
    ),
    "a pickle of a list": Case(("m.pt", "list"), PICKLE, saved([torch.ones(3)])),
    "a pickle of an optimiser": Case(("m.pt", "int"), PICKLE, saved({"state": torch.ones(1), "step": 3})),
    "weights that are not finite": Case(
        ("m.safetensors", "1 of 48", "NaN"),
        spoil=spoilt_weights(lambda layer: layer.weight[0].__setitem__(0, torch.nan)),
    ),
    "weights of another shape": Case(
        ("m.pt", "shape", "[7, 16]"), PICKLE, saved({"1.weight": torch.ones(7, 16), "1.bias": torch.ones(7)})
    ),
    "weights of another network": Case(("m.pt", "another architecture"), PICKLE, saved({"stem": torch.ones(7, 16)})),
    "weights of which some are missing": Case(("m.pt", "1.bias"), PICKLE, saved({"1.weight": torch.ones(3, 16)})),
    "weights that are whole numbers": Case(
        ("m.pt", "int64"),
        PICKLE,
        saved({"1.weight": torch.ones(3, 16).long(), "1.bias": torch.ones(3).long()}),
    ),
    "classes in another order": Case(
        ("another order",), spoil=spoilt_weights(lambda layer: layer.weight.copy_(layer.weight.roll(1, 0)))
    ),
    "a model that knows nothing of the data": Case(
        ("has not learnt this data",), spoil=spoilt_weights(lambda layer: layer.weight.mul_(-1))
    ),
    "a model for fewer classes": Case(
        ("labels", "2 classes"),
        right(model="model: {import: 'mine.py:network', options: {classes: 2}}"),
    ),
    "a model for other classes than told": Case(
        ("3 classes", "`model.classes` is 5"),
        right(model="model: {import: 'mine.py:network', weights: m.safetensors, classes: 5}"),
    ),
    "an argument that the function does not have": Case(
        ("mine.py:network", "depth"), right(model="model: {import: 'mine.py:network', options: {depth: 2}}")
    ),
    "a function that raises": Case(
        ("mine.py:network", "KeyError: 'WEIGHTS'"), spoil=other_network("raise KeyError('WEIGHTS')")
    ),
    "a file that does not compile": Case(("mine.py", "SyntaxError"), spoil=write("mine.py", "def network(:\n")),
    "a file that is none of Python": Case(("mine.py",), spoil=write("mine.py", b"\0\1\2")),
    "a function that leaves": Case(("mine.py:network", "SystemExit"), spoil=other_network("raise SystemExit(0)")),
    "a function that makes no model": Case(("torch.nn.Module", "dict"), spoil=other_network("return {}")),
    "a model without parameters": Case(
        ("No parameter",),
        UNTRAINED,
        other_network("return nn.Flatten()"),
    ),
    "a model that is lazy": Case(
        ("1.weight", "lazy"),
        UNTRAINED,
        other_network("return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))"),
    ),
    "a model without weights": Case(
        ("1.weight", "`meta`"),
        UNTRAINED,
        other_network("return nn.Sequential(nn.Flatten(), nn.Linear(16, 3, device='meta'))"),
    ),
    "a frozen model": Case(
        ("No parameter", "gradient"),
        UNTRAINED,
        other_network("return nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).requires_grad_(False)"),
    ),
    "a model for other inputs": Case(
        ("cannot take", "16 and 17x3"),
        UNTRAINED,
        other_network("return nn.Sequential(nn.Flatten(), nn.Linear(17, 3))"),
    ),
    "a model whose answers are no logits": Case(
        ("logits", "[2, 3, 2, 2]"),
        UNTRAINED,
        other_network("return nn.Conv2d(1, 3, 3)"),
    ),
    "a reference that does not fit": Case(
        ("m.pt", "shape"), right(r="reference: m.pt"), saved({"1.weight": torch.ones(7, 16), "1.bias": torch.ones(7)})
    ),
    "a reference with code": Case(("m.pt", "run code"), right(r="reference: m.pt"), saved(Touch())),
    "a model of Hugging Face with code of its own": Case(
        ("code of its own", "not run"),
        right(model="model: {huggingface: hf}"),
        write("hf/config.json", '{"model_type": "mine", "auto_map": {"AutoModel": "mine.Mine"}}'),
        needs=("transformers",),
    ),
    "a model of Hugging Face with a pickle with code": Case(
        ("pytorch_model.bin", "run code"),
        right(model="model: {huggingface: hf}"),
        lambda folder: (
            write("hf/config.json", '{"model_type": "resnet"}')(folder),
            torch.save(Touch(), folder / "hf" / "pytorch_model.bin"),
        ),
        needs=("transformers",),
    ),
}
