"""Fine-tuning: hope that what is not repeated is forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from amnesty.methods.base import About, Iterative
from amnesty.tasks import Task
from amnesty.training import Loop


@dataclass(frozen=True, kw_only=True)
class FineTune(Iterative):
    """Cross-entropy on the retain set alone; forgetting is left to chance.

    Source: Golatkar et al., CVPR 2020, arXiv:1911.04933; Warnecke et al. 2021, arXiv:2108.11577.
    """

    about: ClassVar = About("Fine-tuning", "FT", "Golatkar et al.", 2020, "arXiv:1911.04933", ("retain",))
    classifiers_only: ClassVar = False

    def run(self, task: Task, loop: Loop) -> None:
        """Train on the retain set."""
        self.train(task, loop, {"retain": task.preserved()})
