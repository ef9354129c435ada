"""What was done, on what, and where, as names and texts: the lists of facts on the page of a request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from amnesty.reports.request_run import Facts, Flat, RequestRun
from amnesty.reports.words import duration, thousands

ADAPTER = "adapter"
_PLACES = ("model.safetensors", "model", "pipeline", ADAPTER)


def model_of(folder: Path) -> Path | None:
    """Where the unlearned model is in the folder of a run, or the adapters that make it one."""
    return next((path for name in _PLACES if (path := folder / name).exists()), None)


def is_adapter(folder: Path) -> bool:
    """Whether adapters alone are in the folder of a run, and no model."""
    found = model_of(folder)
    return found is not None and found.name == ADAPTER


def summary(run: RequestRun) -> Flat:
    """Counts, times, and the model before and after."""
    facts = run.facts
    rows = [
        *_counts(run),
        ("Result", _result(run)),
        ("Took", "" if facts.seconds is None else duration(facts.seconds) + _sittings(facts.sittings)),
        ("Started", facts.started),
        ("Ended", facts.ended),
        *((f"Model before{_of(name)}", text) for name, text in facts.model_before),
        *((f"Model after{_of(name)}", text) for name, text in facts.model_after),
    ]
    return tuple((name, text) for name, text in rows if text)


def environment(run: RequestRun) -> Flat:
    """How it was compared, and where it ran."""
    facts = run.facts
    rows = (
        ("What is compared" if run.generator else "Unseen examples", facts.holdout_protocol),
        ("Seed", "" if facts.seed is None else str(facts.seed)),
        ("Device", facts.device),
        ("Precision", facts.precision),
        *facts.versions,
    )
    return tuple((name, text) for name, text in rows if text)


def _counts(run: RequestRun) -> Iterator[tuple[str, str]]:
    facts = run.facts
    if run.generator:
        gone = run.drawn.concepts if run.drawn is not None else ()
        for name, count in facts.counts.items():
            whose = f"of {name}, to forget" if name in gone and name != "forget" else _SIDES.get(name, f"in {name}")
            yield f"Images {whose}", thousands(count)
        return
    if facts.forgotten is not None:
        yield "Examples forgotten", thousands(facts.forgotten)
    for name, count in facts.counts.items():
        if facts.forgotten is None or name != "forget":
            yield f"Examples in {name}", thousands(count)


_SIDES = {"forget": "to forget", "retain": "to keep"}


def _result(run: RequestRun) -> str:
    """What came out, where the name of a file does not say it."""
    if is_adapter(run.folder):
        return f"low-rank adapters alone, in {ADAPTER}/: they make the unlearned model together with the original"
    if not run.generator or (found := model_of(run.folder)) is None:
        return ""
    if (found / "model_index.json").exists():
        return f"a whole pipeline of diffusers, in {found.name}/"
    return f"the network that was unlearned, in {found.name}/, without the other parts, which are as they were"


def _sittings(count: int | None) -> str:
    return f" in {count} sittings" if count is not None and count > 1 else ""


def _of(name: str) -> str:
    return f": {name}" if name else ""


def kept_counts(facts: Facts) -> dict[str, int]:
    """The parts that are not forgotten: those of the usual names, as forget sets have names of their own."""
    return {name: count for name, count in facts.counts.items() if name in _KEPT}


_KEPT = ("retain", "validation", "holdout", "nonmembers")
