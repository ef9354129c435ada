"""Many images of many prompts, each of a seed of its own: in memory, or in a folder where a stopped run goes on."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from amnesty.errors import CheckpointError, DataError, InvalidInputError, ModelError, one_line
from amnesty.evaluation.drawn_folder import MANIFEST, SCHEMA, open_folder, read_image, read_manifest, write_image
from amnesty.evaluation.image_values import eight_bit
from amnesty.seeds import derive
from amnesty.tasks.diffusion.concepts import Prompt, check_prompt

Tell = Callable[[int, int], None]
"""Called after every batch with the number of images that there are, and of all that are wanted."""


class Draws(Protocol):
    """Who draws, such as `amnesty.tasks.diffusion.Drawer`."""

    @property
    def describe(self) -> Mapping[str, Any]:
        """Who it is: plain values, other ones for whoever draws other images."""

    def __call__(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> Tensor:
        """Return an image of each prompt and seed, float32 in [0, 1], shape [n, C, H, W]."""


class Planned(NamedTuple):
    """One image: of which prompt, which sample of it, of which seed, and where it is in a folder."""

    prompt: Prompt
    sample: int
    seed: int
    path: str


def image_seed(prompt: Prompt, sample: int, seed: int = 0) -> int:
    """Return the seed of one image, in [0, 2^63): of its prompt and number alone, not of what is drawn beside it.

    Args:
        prompt: a text, or the number of a class.
        sample: number of the image among those of its prompt, from 0.
        seed: of the whole.

    >>> image_seed("a cat", 0) == image_seed("a cat", 0), image_seed("3", 0) == image_seed(3, 0)
    (True, False)
    """
    kind = "text" if isinstance(prompt, str) else "class"
    return derive(seed, "evaluated", kind, prompt, sample)


class Drawn(Mapping[Prompt, Tensor]):
    """Images by prompt: uint8, shape [n, C, H, W]; read from the folder whenever they are asked for, if there is one.

    Attributes:
        describe: who drew them.
        ids: prompt -> its name, that of its folder.
        seeds: prompt -> seeds, by number of the sample.
        folder: where they are; ``None``: in memory.
    """

    def __init__(
        self, plan: Sequence[Planned], describe: Mapping[str, Any], folder: Path | None, held: Mapping[str, Tensor]
    ) -> None:
        self.describe, self.folder, self._held = dict(describe), folder, held
        self._plan: dict[Prompt, list[Planned]] = {}
        for one in plan:
            self._plan.setdefault(one.prompt, []).append(one)
        self.ids: Mapping[Prompt, str] = {p: rows[0].path.partition("/")[0] for p, rows in self._plan.items()}
        self.seeds: Mapping[Prompt, list[int]] = {p: [one.seed for one in rows] for p, rows in self._plan.items()}

    def __getitem__(self, prompt: Prompt) -> Tensor:
        return self.first(prompt, len(self._plan[prompt]))

    def __iter__(self) -> Iterator[Prompt]:
        return iter(self._plan)

    def __len__(self) -> int:
        return len(self._plan)

    def first(self, prompt: Prompt, count: int) -> Tensor:
        """Return the first images of a prompt, as many as there are and at most ``count``.

        Raises:
            DataError: a file is missing, cannot be read, or is of another size.
        """
        paths = [one.path for one in self._plan[prompt][:count]]
        found = [self._held[path] if self.folder is None else read_image(self.folder / path) for path in paths]
        if len({image.shape for image in found}) > 1:
            raise DataError(f"The images in {self.folder} for {prompt!r} are of several sizes.")
        return torch.stack(found)


def draw_images(
    drawer: Draws,
    counts: Mapping[Prompt, int],
    *,
    seed: int = 0,
    folder: str | Path | None = None,
    batch_size: int = 16,
    progress: bool | Tell = False,
) -> Drawn:
    """Draw images of prompts, or go on where a stopped run ended.

    In a folder each image is a file ``<prompt id>/<sample>.png``, and a manifest says what all of them are; it is
    written first. Whatever stands in a folder is whole. In memory the images are rounded to 8 bits likewise.

    Args:
        drawer: see `Draws`.
        counts: prompt -> how many images.
        seed: from which those of all images follow; see `image_seed`.
        folder: is made; ``None`` keeps the images in memory.
        batch_size: images that are drawn together. It changes nothing but the rounding of the arithmetic.
        progress: ``True`` shows a bar; a function is called after every batch instead.

    Raises:
        InvalidInputError: no prompt, an empty one, or a number below 1.
        CheckpointError: the folder holds images of another drawer, other prompts, or something else.
        ModelError: the drawer gives something else than images.
        MissingExtraError: Pillow is not installed, which writes PNG files.
    """
    if not isinstance(batch_size, int) or batch_size < 1:
        raise InvalidInputError(f"`batch_size` must be a whole number of at least 1, found {batch_size!r}.")
    plan = planned(counts, seed)
    describe = _plain(drawer.describe)
    place = None if folder is None else Path(folder)
    if place is not None:
        open_folder(place, {"schema": SCHEMA, "drawer": describe, "seed": seed, "prompts": _listed(plan)})
    held: dict[str, Tensor] = {}
    missing = plan if place is None else [one for one in plan if not (place / one.path).is_file()]
    with ExitStack() as stack:
        tell = stack.enter_context(_Bar()) if progress is True else progress or None
        for start in range(0, len(missing), batch_size):
            some = missing[start : start + batch_size]
            for one, image in zip(some, _drawn_by(drawer, some), strict=True):
                if place is None:
                    held[one.path] = image
                else:
                    write_image(place / one.path, image)
            if tell is not None:
                tell(len(plan) - len(missing) + start + len(some), len(plan))
    return Drawn(plan, describe, place, held)


def read_drawn(folder: str | Path) -> Drawn:
    """Return the images that `draw_images` put into a folder.

    Raises:
        CheckpointError: there is no manifest that can be read, or it was written by a run that did not end.
    """
    place = Path(folder)
    content = read_manifest(place)
    try:
        plan = [
            Planned(entry["prompt"], sample, seed, f"{entry['id']}/{sample:04d}.png")
            for entry in content["prompts"]
            for sample, seed in enumerate(entry["seeds"])
        ]
        describe = dict(content["drawer"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{place / MANIFEST} is no list of drawn images: {one_line(error)}.") from error
    lacking = [one.path for one in plan if not (place / one.path).is_file()]
    if lacking:
        raise CheckpointError(
            f"{len(lacking)} of {len(plan)} images are not in {place} yet, such as {lacking[0]}: draw them first."
        )
    return Drawn(plan, describe, place, {})


def planned(counts: Mapping[Prompt, int], seed: int) -> list[Planned]:
    """Return all images that are wanted; raises `InvalidInputError` as `draw_images`."""
    if not counts:
        raise InvalidInputError("There is no prompt to draw for: give at least one.")
    found = []
    digits = max(3, len(str(len(counts) - 1)))
    for number, (prompt, count) in enumerate(counts.items()):
        check_prompt(prompt)
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise InvalidInputError(f"Draw at least one image for {prompt!r}, found {count!r}.")
        name = f"{number:0{digits}d}-{_slug(prompt)}"
        found += [Planned(prompt, k, image_seed(prompt, k, seed), f"{name}/{k:04d}.png") for k in range(count)]
    return found


def _slug(prompt: Prompt) -> str:
    if isinstance(prompt, int):
        return f"class-{prompt}"
    return re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:40].strip("-") or "prompt"


def _listed(plan: Sequence[Planned]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for one in plan:
        name = one.path.partition("/")[0]
        found.setdefault(name, {"id": name, "prompt": one.prompt, "seeds": []})["seeds"].append(one.seed)
    return list(found.values())


def _plain(describe: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return dict(json.loads(json.dumps(dict(describe), allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"`describe` of a drawer must be plain values: {one_line(error)}.") from error


def key_of(describe: Mapping[str, Any]) -> str:
    """Return a short name of a drawer that others do not have."""
    return hashlib.sha256(json.dumps(_plain(describe), sort_keys=True).encode()).hexdigest()[:12]


def _drawn_by(drawer: Draws, some: Sequence[Planned]) -> Tensor:
    images = drawer([one.prompt for one in some], [one.seed for one in some])
    if not isinstance(images, Tensor) or images.dim() != 4 or len(images) != len(some):
        found = list(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ModelError(f"The drawer must give images of shape [{len(some)}, C, H, W], found {found}.")
    try:
        return eight_bit(images, "the drawn images")
    except DataError as error:
        raise ModelError(str(error)) from error


class _Bar:
    """A bar on standard output."""

    def __enter__(self) -> Tell:
        from rich.progress import Progress

        self._bar = Progress(transient=True)
        self._bar.start()
        task = self._bar.add_task("Drawing", total=None)
        return lambda done, total: self._bar.update(task, completed=done, total=total)

    def __exit__(self, *error: object) -> None:
        self._bar.stop()
