"""What the record of a run does not prove, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from amnesty.reports.request_run import RequestRun
from amnesty.reports.request_summary import is_adapter

_OF_EXAMPLES = (
    "A test that finds nothing bounds what it could have found, on these examples, with 95 % confidence. A "
    "stronger attack may find what these tests do not.",
    "It speaks of this model. Copies of the original, models that were made from it, its recorded answers, "
    "backups and the data itself are where they were.",
    "It is as good as the data it was given: unseen examples that the model was trained on after all make "
    "every test blunt, and examples that nobody named were not forgotten.",
)
_OF_IMAGES = (
    "It speaks of these prompts, seeds and settings of the sampler. Other words, languages, guidance or noise, an "
    "image to begin with, or an attack on the prompt may bring back what is not drawn here.",
    "Only the network that draws was changed. Where another network reads the prompts, it still knows the words; and "
    "further training on such images can bring the concept back.",
    "Copies of the original, models and adapters that were made from it, the images that it drew, and what it was "
    "trained on are where they were.",
    "Nothing here speaks of privacy: whether single images that the generator was trained on can be drawn was not "
    "tested.",
)
_HASHES = (
    "The hashes show that these files are those that were measured. They do not show which model answers your users: "
    "compare its hash with that of the unlearned model."
)
_ADAPTERS = "The result is adapters alone: whoever leaves them off has the original, which has forgotten nothing."


def limits(run: RequestRun) -> tuple[str, ...]:
    """What the record does not prove."""
    lines = [*(_of_images(run) if run.generator else _of_examples(run)), _HASHES]
    lines += [_ADAPTERS] if is_adapter(run.folder) else []
    unsure = [entry.name for entry in run.facts.rechecked if entry.answer not in ("not detected", "came back")]
    if unsure:
        lines.append(f"Whether what was forgotten earlier stayed forgotten is not known of: {', '.join(unsure)}.")
    return tuple(lines)


def _of_examples(run: RequestRun) -> Iterator[str]:
    yield from _OF_EXAMPLES
    if run.scores.reference is None:
        yield (
            "No model that was retrained without the examples was at hand: how far the unlearned one is from it is "
            "not known."
        )
    yield from _of_copies(run, "examples")


def _of_images(run: RequestRun) -> Iterator[str]:
    yield from _OF_IMAGES
    if run.scores.judged:
        yield (
            "The judge errs, and says nothing of what else is in an image, or of how good it looks: it counts "
            "whether its own likeliest class is the one that was asked for."
        )
        if run.scores.reference is None:
            yield (
                "No generator that never met what was to be forgotten was at hand: what it would draw for these "
                "prompts is not known."
            )
    if run.facts.duplicates or run.facts.action:
        yield from _of_copies(run, "images")


def _of_copies(run: RequestRun, things: str) -> Iterator[str]:
    if run.facts.action == "keep" and any(sum(kinds.values()) for kinds in run.facts.duplicates.values()):
        yield f"Copies of forgotten {things} are still in the data: the model may know them from there."
    if not run.facts.action and not run.facts.duplicates:
        yield f"Copies of forgotten {things} may be in the data that was kept: none were searched for."
