"""Going back to what a model was after an earlier epoch."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from amnesty.training.hooks import Hook


class Snapshots:
    """Keeps a model as it is now and as each epoch leaves it, on the CPU, with a number measured on each.

    Args:
        model: changed in place by `rewind` only.
        measure: what is measured.

    Attributes:
        measured: one number each, the first before any epoch.
    """

    def __init__(self, model: nn.Module, measure: Callable[[nn.Module], float]) -> None:
        self.model, self.measure = model, measure
        self.measured: list[float] = []
        self._states: list[dict[str, Tensor]] = []
        self._take()

    @property
    def hook(self) -> Hook:
        """Takes one after each epoch of a run."""
        return Hook(end_epoch=lambda epoch: self._take(), state=self._later, restore=self._add)

    def rewind(self, wanted: float) -> int:
        """Go back to the one whose number is closest to ``wanted``, the last of equals; return which, from 0."""
        best = min(range(len(self.measured)), key=lambda k: (abs(self.measured[k] - wanted), -k))
        self.model.load_state_dict(self._states[best])
        return best

    def _later(self) -> tuple[list[float], list[dict[str, Tensor]]]:
        return self.measured[1:], self._states[1:]  # the first is taken when this is made

    def _add(self, later: tuple[list[float], list[dict[str, Tensor]]]) -> None:
        self.measured[1:], self._states[1:] = later

    def _take(self) -> None:
        self.measured.append(self.measure(self.model))
        state = self.model.state_dict()
        self._states.append({name: value.detach().to("cpu", copy=True) for name, value in state.items()})
