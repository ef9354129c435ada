"""Requests one after the other: what each leaves for the record of the next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from amnesty.requests.forgotten import Forgotten

KNOWN = ("membership_auc", "holdout_forgotten_accuracy", "forget_accuracy", "drawn_forget_accuracy")
"""Measures of the model before a request that tell what a later test of its examples could see at all."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """An earlier request, as the records of all later ones name it.

    Attributes:
        name: of the request.
        audit_sha256: SHA-256 (hex) of its audit.json, and so of everything that this one records.
        model_before, model_after: hashes of the tensors, see `amnesty.weights.hash_tensors`.
        forgotten: number of examples.
        forgotten_sha256: of its forgotten.json.
        ended: when, in UTC, ISO 8601.
        forgotten_classes: classes that were forgotten altogether.
        known: what the model before it knew of its forget set: `KNOWN` with the ends of their intervals.
        concepts: of an image generator: name of a concept -> its prompts.
    """

    name: str
    audit_sha256: str
    model_before: str
    model_after: str
    forgotten: int
    forgotten_sha256: str
    ended: str
    forgotten_classes: tuple[int, ...] = ()
    known: Mapping[str, float] = field(default_factory=dict)
    concepts: Mapping[str, Sequence[str | int]] = field(default_factory=dict)

    @property
    def document(self) -> dict[str, Any]:
        """The same as plain data."""
        found = {**asdict(self), "forgotten_classes": list(self.forgotten_classes), "known": dict(self.known)}
        concepts = {name: list(prompts) for name, prompts in found.pop("concepts").items()}
        return {**found, "concepts": concepts} if concepts else found

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Link:
        """Read it from an audit record that was found whole."""
        return cls(**{**document, "forgotten_classes": tuple(document["forgotten_classes"])})


def link_to(audit: Mapping[str, Any], audit_sha256: str) -> Link:
    """Return the link that the next request's record will have to the run of ``audit``."""
    scores = audit["scores"]
    numbers = scores.get("methods", {}).get("original", {})
    ends = [key + end for key in KNOWN for end in ("", "_low", "_high")]
    return Link(
        name=audit["name"],
        audit_sha256=audit_sha256,
        model_before=audit["model"]["before"]["tensors"],
        model_after=audit["model"]["after"]["tensors"],
        forgotten=audit["forget"]["count"],
        forgotten_sha256=audit["forget"]["sha256"],
        ended=audit["time"]["ended"],
        forgotten_classes=tuple(scores.get("forgotten_classes", ())),
        known={key: float(numbers[key]) for key in ends if key in numbers},
        concepts=_concepts(audit),
    )


def _concepts(audit: Mapping[str, Any]) -> dict[str, list[str | int]]:
    """Return the prompts of what an image generator was to forget; nothing of another model."""
    found = (audit.get("task") or {}).get("concepts") or {}
    return {name: list(concept["prompts"]) for name, concept in found.items()}


def broken_links(chain: Sequence[Link], model_before: str, before: Sequence[Forgotten]) -> Iterator[str]:
    """Yield what does not fit: models that do not follow on each other, and lists of forgotten examples.

    Args:
        chain: earlier requests, the first one first.
        model_before: the tensors that the last request started from.
        before: what each earlier request forgot.
    """
    starts = [*(link.model_before for link in chain[1:]), model_before]
    for link, start in zip(chain, starts, strict=bool(chain)):
        if link.model_after != start:
            yield (
                f"the model that {link.name!r} left ({link.model_after[:16]}...) is not the one that the request "
                f"after it started from ({start[:16]}...)"
            )
    if len(before) != len(chain):
        yield f"the chain names {len(chain)} earlier requests, the forgotten examples are those of {len(before)}"
        return
    for link, one in zip(chain, before, strict=True):
        if one.sha256 != link.forgotten_sha256 or len(one.hashes) != link.forgotten or one.name != link.name:
            yield f"the forgotten examples listed for {one.name!r} are not those that {link.name!r} forgot"
