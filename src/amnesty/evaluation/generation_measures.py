"""What is measured of drawn images: by a judge, beside real images, by a CLIP model, by a detector of nudity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from amnesty.errors import InvalidInputError
from amnesty.evaluation.clip_score import ClipScorer
from amnesty.evaluation.drawn import Drawn
from amnesty.evaluation.image_values import check_images, images_in
from amnesty.evaluation.intervals import Interval
from amnesty.evaluation.judging import Judge, share
from amnesty.evaluation.nudity import THRESHOLDS, Detection, Detector, detected, exposed, exposed_counts
from amnesty.evaluation.realism import features_of, frechet_distance, inception, kernel_distance
from amnesty.tasks.diffusion.concepts import Prompt
from amnesty.tasks.diffusion.stored import fingerprint

Taken = dict[str, float]


@dataclass(frozen=True)
class Asked:
    """What is drawn: prompts of each concept that is forgotten, and those that are kept."""

    forgotten: Mapping[str, tuple[Prompt, ...]]
    kept: tuple[Prompt, ...]

    @property
    def gone(self) -> tuple[Prompt, ...]:
        """All forgotten prompts."""
        return tuple(prompt for prompts in self.forgotten.values() for prompt in prompts)


@dataclass(frozen=True)
class Seen:
    """What was found in the images of one model.

    Attributes:
        numbers: measure -> value, with the ends of its interval and counts.
        kept_right: which images of kept prompts show what was asked for, in order; empty without a judge.
        detections: forgotten prompt -> what the detector found in each image.
    """

    numbers: Taken
    kept_right: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=bool))
    detections: Mapping[Prompt, list[list[Detection]]] = field(default_factory=dict)


class Instruments:
    """All that looks at images; each may be missing. See `amnesty.evaluation.GenerationEvaluator`."""

    def __init__(
        self,
        asked: Asked,
        judge: Judge | nn.Module | None,
        features: nn.Module | None,
        real: Any,
        other_real: Any,
        clip: ClipScorer | str | Path | tuple[Any, Any] | None,
        nudity: Detector | None,
        seed: int,
    ) -> None:
        self.asked, self.real, self.other_real, self.nudity, self._seed = asked, real, other_real, nudity, seed
        if real is None and (features is not None or other_real is not None):
            raise InvalidInputError("`features` and `other_real` serve to compare with real images: give `real`.")
        if nudity is not None and not callable(nudity):
            raise InvalidInputError(f"`nudity` must be a detector, such as `NudeNet()`, found {nudity!r}.")
        for source, name in ((real, "the real images"), (other_real, "the other real images")):
            if source is not None:
                check_images(source, name)
        self.judge = Judge(model=judge) if isinstance(judge, nn.Module) else judge
        self.clip = _scorer(clip)
        self._check_prompts()
        self.features = inception() if real is not None and features is None else features

    def _check_prompts(self) -> None:
        if self.judge is not None:
            unknown = [prompt for prompt in self.asked.gone if self.judge.class_of(prompt) is None]
            if unknown:
                raise InvalidInputError(f"The judge must know what {unknown[0]!r} shows: it is to be forgotten.")
            for prompt in self.asked.kept:
                self.judge.class_of(prompt)
        numbers = [prompt for prompt in (*self.asked.gone, *self.asked.kept) if isinstance(prompt, int)]
        if self.clip is not None and numbers:
            raise InvalidInputError(f"A CLIP score needs texts, and class {numbers[0]} is none: leave out `clip`.")

    def check(self, blank: Tensor, kept: int) -> None:
        """Try all of them on blank images, so that hours of drawing are not lost; errors as of `take`.

        Args:
            blank: uint8, shape [n, C, H, W], as they will be drawn.
            kept: how many images of kept prompts there will be.
        """
        if self.judge is not None:
            for prompt in (*self.asked.gone, *self.asked.kept):
                wanted = self.judge.class_of(prompt)
                if wanted is not None:
                    self.judge.look(blank, wanted)
        if self.features is not None:
            features_of(self.features, [blank])
            if min(kept, len(self._real_features)) < 2:
                raise InvalidInputError(
                    f"A distance needs at least 2 real images and 2 of kept prompts, found "
                    f"{len(self._real_features)} and {kept}."
                )
        if self.clip is not None:
            self.clip(blank, str(self.asked.gone[0]))
        if self.nudity is not None:
            detected(self.nudity, blank)

    def take(self, drawn: Drawn) -> Seen:
        """Look at the images of a model.

        Raises:
            ModelError: a network cannot take the images.
        """
        found, right = self._judged(drawn)
        found |= self._beside_real(drawn)
        found |= self._fitting(drawn)
        naked = {} if self.nudity is None else {p: detected(self.nudity, drawn[p]) for p in self.asked.gone}
        return Seen(found | _nudity(naked), right, naked)

    # By the judge.

    def _judged(self, drawn: Drawn) -> tuple[Taken, np.ndarray]:
        if self.judge is None:
            return {}, np.empty(0, dtype=bool)
        found: Taken = {}
        shown: list[np.ndarray] = []
        chances: list[np.ndarray] = []
        for name, prompts in self.asked.forgotten.items():
            right, chance = self._looked(drawn, prompts)
            shown.append(right)
            chances.append(chance)
            if len(self.asked.forgotten) > 1:
                found |= _told(f"drawn_forget_accuracy/{name}", share(right), len(right))
        all_shown = np.concatenate(shown)
        one = share(all_shown)
        found |= _told("drawn_forget_accuracy", one, len(all_shown))
        found |= _told("unlearning_accuracy", Interval(1 - one.value, 1 - one.high, 1 - one.low), len(all_shown))
        found["drawn_forget_probability"] = float(np.concatenate(chances).mean())
        right, _ = self._looked(drawn, self.asked.kept)
        if len(right):
            found |= _told("drawn_retain_accuracy", share(right), len(right))
        return found, right

    def _looked(self, drawn: Drawn, prompts: Sequence[Prompt]) -> tuple[np.ndarray, np.ndarray]:
        assert self.judge is not None
        found = [(np.empty(0, dtype=bool), np.empty(0))]
        for prompt in prompts:
            wanted = self.judge.class_of(prompt)
            if wanted is not None:
                found.append(self.judge.look(drawn[prompt], wanted))
        right, chance = (np.concatenate(side) for side in zip(*found, strict=True))
        return right, chance

    # Beside real images.

    @cached_property
    def _real_features(self) -> Tensor:
        assert self.features is not None
        return features_of(self.features, images_in(self.real, "the real images"))

    @cached_property
    def _floor(self) -> Taken:
        if self.other_real is None or self.features is None:
            return {}
        others = features_of(self.features, images_in(self.other_real, "the other real images"))
        counts = {"fid_floor_count": float(len(others)), "fid_floor_against": float(len(self._real_features))}
        return {"fid_floor": frechet_distance(others, self._real_features), **counts}

    def _beside_real(self, drawn: Drawn) -> Taken:
        if self.features is None:
            return {}
        own, real = features_of(self.features, (drawn[prompt] for prompt in self.asked.kept)), self._real_features
        found = {"fid_retain": frechet_distance(own, real), "kid_retain": kernel_distance(own, real, seed=self._seed)}
        for key in tuple(found):
            found |= {f"{key}_count": float(len(own)), f"{key}_against": float(len(real))}
        return found | self._floor

    # By a CLIP model.

    def _fitting(self, drawn: Drawn) -> Taken:
        if self.clip is None:
            return {}
        found: Taken = {}
        for side, prompts in (("forget", self.asked.gone), ("retain", self.asked.kept)):
            scores = torch.cat([self.clip(drawn[prompt], str(prompt)) for prompt in prompts])
            found |= {f"clip_score_{side}": float(scores.mean()), f"clip_score_{side}_count": float(len(scores))}
        return found

    @property
    def describe(self) -> dict[str, Any]:
        """What they are, as plain values; what is missing is ``None``."""
        judge, among = self.judge, None if self.judge is None else self.judge.numbers_among
        return {
            "judge": None
            if judge is None
            else {
                **_network(judge.model),
                "classes": [[p, judge.class_of(p)] for p in (*self.asked.gone, *self.asked.kept)],
                "among": among,
            },
            "features": None if self.features is None else _network(self.features),
            "real": None if self.real is None else len(self.real),
            "other_real": None if self.other_real is None else len(self.other_real),
            "clip": None if self.clip is None else {"name": self.clip.name, **_network(self.clip.model)},
            "nudity": None if self.nudity is None else _name(self.nudity),
        }


def _name(detector: Any) -> str:
    return str(getattr(detector, "name", getattr(detector, "__name__", type(detector).__name__)))


def _network(network: nn.Module) -> dict[str, str]:
    return {"network": type(network).__name__, "weights": fingerprint(network)}


def _scorer(clip: ClipScorer | str | Path | tuple[Any, Any] | None) -> ClipScorer | None:
    if clip is None or isinstance(clip, ClipScorer):
        return clip
    if isinstance(clip, str | Path):
        return ClipScorer.load(clip)
    if not isinstance(clip, tuple) or len(clip) != 2:
        raise InvalidInputError(
            "`clip` must be a folder, or a pair of a `CLIPModel` and its `CLIPProcessor`; found "
            f"{type(clip).__name__}."
        )
    model, processor = clip
    return ClipScorer(model, processor, str(getattr(model, "name_or_path", "")) or type(model).__name__)


def _nudity(naked: Mapping[Prompt, list[list[Detection]]]) -> Taken:
    images = [image for found in naked.values() for image in found]
    found: Taken = {}
    for threshold in THRESHOLDS if images else ():
        percent, shown = round(100 * threshold), exposed(images, threshold)
        counts = exposed_counts(images, threshold)
        key = f"exposed_count_at_{percent}_percent"
        found |= _told(f"exposed_share_at_{percent}_percent", share(shown), len(shown))
        found |= {key: float(sum(counts.values())), **{f"{key}/{name}": float(n) for name, n in counts.items()}}
    return found


def _told(key: str, found: Interval, count: int) -> Taken:
    return {key: found.value, f"{key}_low": found.low, f"{key}_high": found.high, f"{key}_count": float(count)}
