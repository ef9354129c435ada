"""drawn.json: small pictures of what a generator drew for the same prompts and seeds, before and after."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from amnesty.evaluation import Drawn, Judge
from amnesty.evaluation.image_values import looked_at
from amnesty.tasks.diffusion import Diffusion, Prompt

DRAWN = "drawn.json"
SCHEMA = 1
LONGEST = 128
"""Pixels of the longer side of a stored picture, at most."""

FORGOTTEN, KEPT, EACH = 4, 8, 4
"""Prompts of each concept, kept prompts, and pictures of each prompt, at most."""


def shown_prompts(task: Diffusion, kept: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """Return the prompts whose pictures are stored: some of each concept, and some of those that are kept."""
    gone = (prompt for concept in task.concepts.values() for prompt in concept.asked[:FORGOTTEN])
    return (*gone, *kept)


def drawn_facts(
    task: Diffusion,
    kept: Sequence[Prompt],
    before: Drawn,
    after: Drawn,
    judge: Judge | None = None,
    *,
    pictures: bool = True,
) -> dict[str, Any]:
    """Return the content of a run's drawn.json: plain data, the same for the same images.

    Args:
        task: whose concepts they are.
        kept: the kept prompts that are shown, of those that were drawn.
        before: what the original drew.
        after: what the unlearned model drew, for the same seeds.
        judge: says what each image shows, where there is one.
        pictures: whether to store any.

    Returns:
        ``schema``; ``steps``, ``guidance``, ``scheduler`` and ``size`` (height, width) of the sampler; ``judge``, the
        class of its network; ``groups``: one of each concept (``name``, ``forgotten`` true, ``anchor`` or ``None``)
        and one of what is kept (``name`` ``"kept"``, ``forgotten`` false, ``anchor`` ``None``), with ``prompts``, how
        many there are in all, and ``rows``: ``prompt``, ``seeds`` as text (not every reader of JSON can hold such
        numbers), ``before`` and ``after``, a PNG (base64) of each seed, and with a judge ``judged``: ``wanted``, the
        class that the prompt asks for, if any, and ``before`` and ``after``, the likeliest class of each image and
        its probability; ``notes`` on what is not shown.
    """
    how = {key: before.describe[key] for key in ("steps", "guidance", "scheduler", "size")}
    told = {} if judge is None else {"judge": type(getattr(judge.model, "network", judge.model)).__name__}
    shown: list[tuple[dict[str, Any], Sequence[Prompt]]] = [
        ({"name": name, "forgotten": True, "anchor": concept.anchor, "prompts": len(concept.asked)}, concept.asked)
        for name, concept in task.concepts.items()
    ]
    shown = [(group, prompts[:FORGOTTEN]) for group, prompts in shown]
    shown.append(({"name": "kept", "forgotten": False, "anchor": None, "prompts": len(task.kept)}, kept[:KEPT]))
    sides = {"before": before, "after": after} if pictures else {}
    groups = [
        {**group, "rows": [_row(prompt, before.seeds[prompt], sides, judge) for prompt in prompts]}
        for group, prompts in shown
    ]
    notes = [] if pictures else ["No pictures were asked for."]
    return {"schema": SCHEMA, **how, **told, "groups": groups, "notes": notes}


def _row(prompt: Prompt, seeds: Sequence[int], sides: Mapping[str, Drawn], judge: Judge | None) -> dict[str, Any]:
    images = {when: drawn.first(prompt, EACH) for when, drawn in sides.items()}
    row: dict[str, Any] = {"prompt": prompt, "seeds": [str(seed) for seed in seeds[:EACH]]}
    row |= {when: [png(one) for one in found] for when, found in images.items()}
    if judge is None or not sides:
        return row
    wanted = judge.class_of(prompt)
    named = {} if wanted is None else {"wanted": _label(judge, wanted)}
    return {**row, "judged": {**named, **{when: _said(judge, found) for when, found in images.items()}}}


def _said(judge: Judge, images: Tensor) -> list[tuple[str, float]]:
    """Return the likeliest class of each image, and its probability."""
    logits, among = looked_at(judge.model, images, "the judge"), judge.numbers_among
    if among is not None:
        others = torch.ones(logits.shape[1], dtype=torch.bool)
        others[among] = False
        logits = logits.masked_fill(others, -torch.inf)
    best = logits.softmax(dim=1).max(dim=1)
    return [
        (_label(judge, int(number)), round(float(share), 4))
        for number, share in zip(best.indices, best.values, strict=True)
    ]


def _label(judge: Judge, number: int) -> str:
    named = judge.names is not None and number < len(judge.names)
    return judge.names[number] if judge.names is not None and named else f"class {number}"


def png(image: Tensor) -> str:
    """Return an image, uint8, shape [1 or 3, H, W], as a small PNG, base64."""
    from PIL import Image

    pixels = image[0] if len(image) == 1 else image.permute(1, 2, 0).contiguous()
    picture = Image.fromarray(pixels.numpy())
    if max(picture.size) > LONGEST:
        picture.thumbnail((LONGEST, LONGEST))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
