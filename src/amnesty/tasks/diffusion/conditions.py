"""What a model is told of prompts, computed once, and which prompts belong to an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from amnesty.tasks.diffusion.concepts import Prompt

Tell = Callable[[Sequence[Prompt] | None], dict[str, Tensor]]
"""Maps prompts, or ``None`` for none, to tensors of a row each, by name."""

NONE = 0
"""The row of no prompt."""


class Conditions:
    """What the model is told of every prompt, on the CPU; a prompt is encoded when it is first needed.

    Args:
        tell: see `Tell`.
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._rows: dict[Prompt, int] = {}
        self._told: dict[str, Tensor] = {}

    def rows(self, prompts: Sequence[Prompt]) -> list[int]:
        """Return the row of each prompt."""
        for prompt in prompts:
            self._rows.setdefault(prompt, len(self._rows) + 1)
        return [self._rows[prompt] for prompt in prompts]

    def known_rows(self, prompts: Sequence[Prompt]) -> list[int]:
        """Return the same, of prompts that are encoded now; where one cannot be, all new ones are left out again."""
        self.read()
        before = dict(self._rows)
        found = self.rows(prompts)
        try:
            self.read()
        except BaseException:
            self._rows = before
            raise
        return found

    def read(self) -> dict[str, Tensor]:
        """Encode what was not encoded yet, and return all rows."""
        known = len(next(iter(self._told.values()))) if self._told else 0
        wanted = list(self._rows)[max(0, known - 1) :]
        news = [self._tell(None)] if not known else []
        if wanted:
            news.append(self._tell(wanted))
        for told in news:
            for name, rows in told.items():
                self._told[name] = torch.cat([self._told[name], rows]) if name in self._told else rows
        return self._told

    def __call__(self, rows: Tensor, device: torch.device) -> dict[str, Tensor]:
        """Return what the model is told, by name, for rows of any number, shape [B]."""
        return {name: told[rows].to(device, non_blocking=True) for name, told in self.read().items()}


class Captions:
    """The prompts of which any may stand for an image: a caption is a set of them, by number.

    Args:
        conditions: encodes them.
    """

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions
        self._numbers: dict[tuple[Prompt, ...], int] = {}
        self._rows: list[list[int]] = []

    def number(self, prompts: tuple[Prompt, ...]) -> int:
        """Return the number of a caption, which is a new one where it is new."""
        if prompts not in self._numbers:
            self._numbers[prompts] = len(self._numbers)
            self._rows.append(self._conditions.rows(prompts))
        return self._numbers[prompts]

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """All prompts of all captions, each once."""
        return tuple(dict.fromkeys(prompt for prompts in self._numbers for prompt in prompts))

    def prompts_of(self, number: int) -> tuple[Prompt, ...]:
        """Return the prompts of a caption."""
        return list(self._numbers)[number]

    def choose(self, numbers: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a prompt of each caption: shape [B] -> rows, shape [B]."""
        given = [self._rows[int(k)] for k in numbers]
        if all(len(rows) == 1 for rows in given):
            return torch.tensor([rows[0] for rows in given])
        share = torch.rand(len(given), generator=generator).tolist()
        return torch.tensor([rows[int(x * len(rows))] for rows, x in zip(given, share, strict=True)])
