"""Steps with lookahead players: who plays when, at which weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from amnesty.bargaining.agreement import Curvature
from amnesty.bargaining.elsewhere import Moment, kept, length, shifted
from amnesty.bargaining.inner import Inner
from amnesty.bargaining.kinks import kinks
from amnesty.bargaining.lookahead import Lookahead
from amnesty.bargaining.players import Turns
from amnesty.bargaining.vocabulary import Moving, Player
from amnesty.errors import InvalidInputError, ModelError

_TRUSTED = 0.1  # relative error of the Hessian term beyond which a warning is due


@dataclass
class Played:
    """What one player brought to a step."""

    loss: Tensor
    gradient: list[Tensor | None]
    curvature: Curvature | None = None


class Looking:
    """The lookahead players of a `Bargain`, and what is remembered of them from step to step.

    Args:
        looks: name of the player -> how it looks.
        buffers: tensors that evaluations at shifted weights leave as they were, or the module whose they are.

    Raises:
        InvalidInputError: a player looks past itself, or is not described by a `Lookahead`.
    """

    def __init__(self, looks: Mapping[str, Lookahead], buffers: Sequence[Tensor] | nn.Module) -> None:
        faults = []
        for name, look in looks.items():
            given: object = look
            if not isinstance(given, Lookahead):
                faults.append(f"`lookahead[{name!r}]` must be a `Lookahead`, found {type(given).__name__}")
            elif given.after == name:
                faults.append(f"player {name!r} looks past itself: `after` must name another player")
        if faults:
            raise InvalidInputError(f"{'; '.join(faults)}.")
        self._looks = dict(looks)
        self._given = buffers
        self._steps = dict.fromkeys(looks, 0)  # those at which the player had a Hessian term
        self._looked_into: set[str] = set()  # players for whom the inner graph was searched
        self._warned: set[str] = set()

    def check(self, players: Iterable[str]) -> None:
        """Raise `InvalidInputError` if a name is that of no player of this step, not even of an absent one."""
        known = list(players)
        faults = [f"there is no player {name!r} to look ahead" for name in self._looks if name not in known]
        for name, look in self._looks.items():
            if look.after not in known:
                faults.append(f"{name!r} looks past {look.after!r}, who does not play")
        if faults:
            raise InvalidInputError(f"{'; '.join(faults)}. The players of this step: {', '.join(known)}.")

    def play(self, players: Mapping[str, Player], turns: Turns) -> dict[str, Played]:
        """Evaluate all players of a step, in their order, but an inner player before those that look past it."""
        after = {n: look.after for n, look in self._looks.items() if n in players and look.after in players}
        if not after:
            return {name: Played(*turns.play(name, player)) for name, player in players.items()}
        played: dict[str, Played] = {}
        begun: set[str] = set()
        for name in players:
            inner = after.get(name, name)
            if inner in begun:
                continue
            begun.add(inner)
            lookers = [n for n in players if after.get(n) == inner]
            found = self._play_past(inner, lookers, players, turns)
            # An inner player that looks ahead itself has another turn, for its own gradient.
            played |= {n: one for n, one in found.items() if n in lookers or n not in after}
        return played

    def done(self, played: Mapping[str, Played]) -> None:
        """Count a step that succeeded."""
        for name, one in played.items():
            if one.curvature is not None:
                self._steps[name] += 1
                self._looked_into.add(name)

    def state_dict(self) -> dict[str, Any]:
        """Return what it counted so far."""
        return {"steps": self._steps, "looked_into": sorted(self._looked_into), "warned": sorted(self._warned)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._steps = dict(state["steps"])
        self._looked_into, self._warned = set(state["looked_into"]), set(state["warned"])

    @contextmanager
    def undone_by_an_error(self, moving: Moving) -> Iterator[None]:
        """Where something raises, leave the buffers and the random state as they were."""
        if not self._looks:
            yield
            return
        before = Moment((p.device for p, _ in moving), self._buffers())
        try:
            yield
        except BaseException:
            before.restore()
            raise

    def _play_past(
        self, inner: str, lookers: list[str], players: Mapping[str, Player], turns: Turns
    ) -> dict[str, Played]:
        if not lookers:
            return {inner: Played(*turns.play(inner, players[inner]))}
        kinds = [self._looks[name].curvature for name in lookers]
        buffers = self._buffers()

        def inspect(loss: Tensor) -> None:
            self._check_kinks(lookers, inner, loss)

        first = any(n not in self._looked_into and self._looks[n].curvature != "none" for n in lookers)
        point = Inner(inner, players[inner], turns, buffers, kinds, first, inspect)
        played = {}
        for k, name in enumerate(lookers):
            look, error = self._looks[name], None
            with shifted(turns.moving, point.gradient, -look.step), kept(buffers):
                loss, v = turns.play(name, players[name])
            if look.curvature == "none":
                played[name] = Played(loss, v)
                continue
            if look.curvature == "exact":
                product = point.hessian(v, last="exact" not in kinds[k + 1 :])
            else:
                product, error = self._difference(name, point, v)
            bend = look.step * length(product)
            gradient = _minus(v, product, look.step)
            played[name] = Played(loss, gradient, Curvature(_ratio(bend, length(gradient)), error))
        played[inner] = Played(point.loss, point.own())
        return played

    def _difference(
        self, name: str, point: Inner, v: list[Tensor | None]
    ) -> tuple[list[Tensor | None], Tensor | None]:
        look = self._looks[name]
        e = point.displacement(look.difference, v)
        product = point.slope(v, e)
        if self._steps[name] % look.check_every:
            return product, None
        # Twice as far, not half as far: the difference of the two is then, to first order, the error of the one
        # that is used where the third derivative makes it, and 0.9 (0.7) of it where rounding (a kink) does.
        error = _ratio(length(_minus(point.slope(v, 2 * e), product, 1.0)), length(product))
        if name not in self._warned and error.item() > _TRUSTED:
            self._warn(
                name,
                f"The Hessian term of player {name!r} has a relative error of about {error.item():.2g}: finite "
                f"differences of its inner player {look.after!r} do not settle. Use `curvature='exact'`, or "
                "'none'; if the network is smooth, another `difference`, or more precision, may help.",
            )
        return product, error

    def _check_kinks(self, lookers: list[str], inner: str, loss: Tensor) -> None:
        done = self._looked_into | self._warned
        names = [n for n in lookers if self._looks[n].curvature == "finite-difference" and n not in done]
        found = kinks(loss) if names else []
        if not found:
            return
        what = (
            f"The loss of player {inner!r} runs through functions whose slope jumps ({', '.join(found)}), and {{}} "
            "takes finite differences of its gradient. Every jump on the way adds an error, which grows like "
            "1 / sqrt(e) as the displacement e shrinks: no e can be trusted."
        )
        refusing = [name for name in names if self._looks[name].kinks == "refuse"]
        if refusing:
            raise ModelError(
                f"{what.format(_quoted(refusing))} Use `curvature='exact'` or 'none' (or `kinks='warn'`, where these "
                "functions never come near their kinks)."
            )
        for name in names:
            self._warn(name, what.format(_quoted([name])))

    def _warn(self, name: str, message: str) -> None:
        warnings.warn(message, UserWarning, stacklevel=2)
        self._warned.add(name)

    def _buffers(self) -> list[Tensor]:
        # Asked at each step: a module may have exchanged them.
        return list(self._given.buffers() if isinstance(self._given, nn.Module) else self._given)


def _minus(v: list[Tensor | None], other: Sequence[Tensor | None], factor: float) -> list[Tensor | None]:
    """Return ``v - factor * other``; ``v`` is used up, ``other`` is not changed."""
    return [
        x if y is None else y * -factor if x is None else x.add_(y, alpha=-factor)
        for x, y in zip(v, other, strict=True)
    ]


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    whole = whole.to(part.device)
    return torch.where(part == 0, 0.0, part / whole)


def _quoted(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names)
