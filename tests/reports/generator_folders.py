"""Folders of runs of image generators, made up: flat pictures, and scores as a judge of 50 images would give them."""

import base64
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from amnesty.evaluation.intervals import wilson
from tests.reports.request_folders import FACTS

THREE, FOUR, FIVE = (f"a photo of the digit {name}" for name in ("three", "four", "five"))
ASKED = {"asked": f"Forget {THREE!r}. 2 prompts are kept.", "counts": {"forget": 16, "retain": 128}, "forgotten": 16}
QUIET = {"duplicates": {}, "holdout_protocol": "Concepts are forgotten, not examples: before and after are compared."}


def png(size=8, seed=0, kind="PNG"):
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind)
    return base64.b64encode(buffer.getvalue()).decode()


def row(prompt, images=4, judged=None, pictures=True, size=8):
    """A prompt; ``judged`` is what a judge was to see and saw first, before and after."""
    found = {"prompt": prompt, "seeds": [str(2**62 + at) for at in range(images)]}
    if pictures:
        found |= {when: [png(size, seed) for seed in range(images)] for when in ("before", "after")}
    if judged is not None:
        wanted, before, after = judged
        sides = {"before": [[before, 0.91]] * images, "after": [[after, 0.6], *[None] * (images - 1)]}
        found |= {"judged": {"wanted": wanted, **sides}}
    return found


def concept(*rows, name="forget", anchor=FOUR, **more):
    return {"name": name, "forgotten": True, "anchor": anchor, "rows": list(rows), **more}


def kept(*rows, **more):
    return {"name": "kept", "forgotten": False, "anchor": None, "rows": list(rows), **more}


def drawn(*groups, **changed):
    usual = (concept(row(THREE)), kept(row(FOUR), row(FIVE)))
    how = {"steps": 20, "guidance": 1.5, "scheduler": "DDIMScheduler", "size": [8, 8], "notes": []}
    return {"schema": 1, **how, "groups": list(groups or usual), **changed}


def counted(right, count=50):
    """The share of images and its interval, by end of the name of a measure."""
    found = wilson(right, count)
    return {"": found.value, "_low": found.low, "_high": found.high, "_count": count}


def judged(forget=(48, 0), retain=(200, 198), of=200, names=()):
    """Scores of the original and of MUNBa: how many images show what was asked for."""
    methods = {}
    for at, name in enumerate(("original", "munba")):
        own = {f"drawn_forget_accuracy{end}": value for end, value in counted(forget[at]).items()}
        own |= {f"drawn_retain_accuracy{end}": value for end, value in counted(retain[at], of).items()}
        for concept_name in names:
            key = f"drawn_forget_accuracy/{concept_name}"
            own |= {f"{key}{end}": value for end, value in counted(forget[at]).items()}
        methods[name] = own
    change = (retain[1] - retain[0]) / of
    ends = {"drawn_retain_change_low": change - 0.005, "drawn_retain_change_high": change + 0.005}
    methods["munba"] |= {"drawn_retain_change": change, **ends, "seconds": 12.5}
    return methods


UNJUDGED = {"original": {}, "munba": {"seconds": 12.5}}


def write(folder: Path, content=None, methods=None, facts=None, result="pipeline") -> Path:
    """A run's folder without its page."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {"schema": 1, "seed": 3, "methods": judged() if methods is None else methods}
    (folder / "scores.json").write_text(json.dumps(document))
    (folder / "drawn.json").write_text(json.dumps(drawn() if content is None else content))
    (folder / "request.yaml").write_text("name: user-7\ntask: diffusion\n")
    (folder / "run.json").write_text(json.dumps({"schema": 1, **FACTS, **ASKED, **QUIET, **(facts or {})}))
    (folder / result).mkdir(exist_ok=True)
    (folder / result / "model_index.json" if result == "pipeline" else folder / result / "w").write_text("{}")
    return folder
