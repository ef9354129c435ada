"""What a run of the loop will do, known before its first step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from amnesty.data import Batches, Pairing, steps
from amnesty.errors import InvalidInputError
from amnesty.tasks import Role, Source
from amnesty.training.batchnorm import BATCH_NORM_POLICIES
from amnesty.training.schedules import SCHEDULES

BESIDE = " (beside)"
"""What is added to a player's name for the stream of its second part."""


def joined(batches: Mapping[str, Any]) -> dict[str, Any]:
    """Give players that see two parts their two batches."""
    return {
        name: (batch, batches[name + BESIDE]) if name + BESIDE in batches else batch
        for name, batch in batches.items()
        if not name.endswith(BESIDE)
    }


def passes_of(
    streams: Mapping[str, Batches], pairing: Pairing, epochs: int, at_least: int, during: Mapping[str, int]
) -> list[dict[str, Batches]]:
    """Return the streams of each pass."""

    def passes() -> Iterator[dict[str, Batches]]:
        count = done = 0
        while count < epochs or done < at_least:
            count += 1
            active = {n: s for n, s in streams.items() if count <= during.get(n.removesuffix(BESIDE), count)}
            done += steps(active, pairing)
            yield active

    return list(passes())


def check_run(
    players: Mapping[str, Role],
    parts: Mapping[str, Source],
    epochs: int,
    last_pass: float,
    schedule: Any,
    batch_norm: str,
    pairing: str,
    during: Mapping[str, int],
) -> None:
    """Raise `InvalidInputError` if settings are out of range, or a player needs a part that was not given."""
    faults = []
    if epochs < 1:
        faults.append(f"`epochs` must be at least 1, found {epochs}")
    if not 0 < last_pass <= 1:
        faults.append(f"`last_pass` must be in (0, 1], found {last_pass}")
    if not callable(schedule) and schedule not in SCHEDULES:
        faults.append(f"`schedule` must be one of {', '.join(SCHEDULES)} or a function, found {schedule!r}")
    if batch_norm not in BATCH_NORM_POLICIES:
        faults.append(f"`batch_norm` must be one of {', '.join(BATCH_NORM_POLICIES)}, found {batch_norm!r}")
    for name, role in players.items():
        for part in filter(None, (role.part, role.beside)):
            if part not in parts:
                faults.append(f"player {name!r} needs the {part} set, which was not given")
        if role.beside is not None and pairing in ("sequential", "retain_tail"):
            faults.append(f"player {name!r} sees two parts at once, which `pairing` {pairing!r} keeps apart")
    faults += [f"`during` names {name!r}, who does not play" for name in during if name not in players]
    if faults:
        raise InvalidInputError(f"{'; '.join(faults)}.")
