"""A request on the model that an earlier one left: what came before, checked first."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from amnesty.requests.audit import AuditError, read_audit
from amnesty.requests.digests import AUDIT, file_hash
from amnesty.requests.forgotten import Forgotten, read_forgotten, read_forgotten_before
from amnesty.requests.links import Link, link_to
from amnesty.requests.verifying import verify


class ChainError(AuditError):
    """An earlier run that a new request cannot be built on."""


@dataclass(frozen=True)
class Earlier:
    """The requests before a new one, the first one first.

    Attributes:
        chain: what the new record says of each.
        forgotten: which examples each forgot.
    """

    chain: tuple[Link, ...] = ()
    forgotten: tuple[Forgotten, ...] = ()

    @cached_property
    def hashes(self) -> frozenset[bytes]:
        """The `amnesty.data.example_hash` of everything that was forgotten."""
        return frozenset(h for one in self.forgotten for h in one.hashes)

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each, all different: those of the requests, the second of a name with ``(2)`` after it."""
        given = [one.name for one in self.forgotten]
        counts = [given[:position].count(name) for position, name in enumerate(given)]
        return tuple(f"{name} ({count + 1})" if count else name for name, count in zip(given, counts, strict=True))

    def check_start(self, tensors: str) -> None:
        """Raise `ChainError` unless the model with these tensors is the one that the last request left."""
        if self.chain and self.chain[-1].model_after != tensors:
            raise ChainError(
                f"The model to start from ({tensors[:16]}...) is not the one that {self.chain[-1].name!r} left "
                f"({self.chain[-1].model_after[:16]}...): it was changed in between."
            )


def read_earlier(folder: Path, *, key: Path | None = None) -> Earlier:
    """Read what came before a request that starts from the model in ``folder``, after verifying that folder.

    Args:
        folder: of the run before.
        key: public key file that must have signed it; see `verify`.

    Raises:
        ChainError: the folder, or one that it builds on, is not as it was left; the message names what is wrong.
        AuditError: it is not the folder of a finished run.
    """
    found = verify(folder, key=key, data=False)
    if not found.ok:
        more = f" And {len(found.problems) - 5} more." if len(found.problems) > 5 else ""
        raise ChainError(
            f"{folder} is not as its run left it, and nothing is built on it: {'; '.join(found.problems[:5])}.{more}"
        )
    audit = read_audit(folder)
    chain = (*map(Link.of, audit["chain"]), link_to(audit, file_hash(folder / AUDIT)))
    return Earlier(chain, (*read_forgotten_before(folder), read_forgotten(folder)))


def forgotten_before(folder: Path) -> dict[str, tuple[bytes, ...]]:
    """Return what a request that starts from ``folder`` must not teach again: name of a run -> hashes of examples.

    Of that run itself and of all before it, the first one first. Raises as `read_earlier`.
    """
    earlier = read_earlier(folder)
    return {name: one.hashes for name, one in zip(earlier.names, earlier.forgotten, strict=True)}
