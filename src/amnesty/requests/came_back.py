"""Is what earlier requests forgot drawn again after the next one?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from amnesty.errors import InvalidInputError
from amnesty.evaluation import Interval, Judge, draw_images
from amnesty.evaluation.drawn import Draws
from amnesty.evaluation.findings import findings
from amnesty.evaluation.intervals import paired_difference, wilson
from amnesty.evaluation.measures import of_original
from amnesty.requests.chain import Earlier
from amnesty.requests.links import Link
from amnesty.requests.rechecking import RecheckAnswer, Rechecked
from amnesty.tasks.diffusion import Prompt

KEY = "drawn_forget_accuracy"


def came_back(
    earlier: Earlier, judge: Judge | None, drawers: Sequence[Draws], count: int, seed: int
) -> tuple[Rechecked, ...]:
    """Let two models draw what earlier requests forgot, and ask a judge whether it can be seen.

    Args:
        earlier: see `amnesty.requests.chain.read_earlier`.
        judge: ``None`` where there is none.
        drawers: of the model that the new request started from, and of the one that it leaves.
        count: images of each prompt.
        seed: of all of them.
    """
    found = []
    for name, link in zip(earlier.names, earlier.chain, strict=True):
        prompts = [prompt for asked in link.concepts.values() for prompt in asked]
        classes = _classes(judge, prompts)
        if isinstance(classes, str):
            found.append(Rechecked(name, "inconclusive", classes, link.forgotten, 0))
            continue
        assert judge is not None
        try:
            sides = [_shown(judge, drawer, classes, count, seed) for drawer in drawers]
        except InvalidInputError as error:  # classes that this judge does not have
            found.append(Rechecked(name, "inconclusive", str(error), link.forgotten, 0))
            continue
        answer, reason, numbers = _compared(sides[0], sides[1], link)
        found.append(Rechecked(name, answer, reason, link.forgotten, link.forgotten, numbers))
    return tuple(found)


def _classes(judge: Judge | None, prompts: Sequence[Prompt]) -> dict[Prompt, int] | str:
    """Return what images of these prompts are to show, or why that is not known."""
    if not prompts:
        return "no prompts of it are recorded"
    if judge is None:
        return "no judge says what is drawn"
    try:
        classes = {prompt: judge.class_of(prompt) for prompt in prompts}
    except InvalidInputError:
        return "`evaluation.judge.classes` does not say what its prompts show"
    known = {prompt: number for prompt, number in classes.items() if number is not None}
    return known or "the judge does not know what its prompts show"


def _shown(judge: Judge, drawer: Draws, classes: Mapping[Prompt, int], count: int, seed: int) -> np.ndarray:
    drawn = draw_images(drawer, dict.fromkeys(classes, count), seed=seed)
    return np.concatenate([judge.look(drawn[prompt], wanted)[0] for prompt, wanted in classes.items()])


def _compared(before: np.ndarray, after: np.ndarray, link: Link) -> tuple[RecheckAnswer, str, dict[str, float]]:
    """Return the answer, the reason and the numbers."""
    was, now, change = _share(before), _share(after), paired_difference(after, before)
    numbers = {
        **_named(f"{KEY}_before", was),
        **_named(f"{KEY}_after", now),
        **_named("change", change),
    }
    known = of_original(link.known)
    graded = findings({**_named(KEY, now), **known}) if f"{KEY}_original" in known else ()
    own = next((one for one in graded if one.question == "class"), None)
    said = own.reason if own is not None else f"forgotten prompts drawn as asked {now.value:.3f}"
    reason = f"{said}; before this request {was.value:.3f}, change {change.value:+.3f}"
    reason += f" [{change.low:+.3f}, {change.high:+.3f}]"
    if change.low > 0:
        return "came back", reason, numbers
    if own is None:
        return "inconclusive", f"{reason}; what the first model drew of it is not recorded", numbers
    assert own.answer in ("not detected", "remembered", "over-forgotten", "inconclusive")
    return own.answer, reason, numbers


def _share(right: np.ndarray) -> Interval:
    return wilson(int(right.sum()), len(right))


def _named(key: str, found: Interval) -> dict[str, float]:
    return {key: found.value, f"{key}_low": found.low, f"{key}_high": found.high}
