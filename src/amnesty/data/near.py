"""How alike two images are, whether or not one was compressed, brightened, shifted, mirrored or cropped since.

An image is brought to 32 x 32 pixels at most, its channels are centred and its contrast is set to 1. Then each is
compared with all images searched for in two steps:

1. *Where to look.* The middle of the image, averaged to 6 x 6 cells, against nine windows of each image searched for,
   up to a sixteenth of the side away from its middle, a larger and a smaller one, and the same of its mirror image.
   These are correlations, hence matrix products.
2. *How alike.* For the best of these the window is moved by single pixels and its size varied; what counts is the
   correlation of the *detail* of the two: what is finer than a quarter of the side and coarser than a pixel or two.
   Any two photographs of a thing before the sky agree in what is coarser, and noise and compression are finer.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from amnesty.errors import DataError

SIDE = 32  # pixels; more of them would tell no more of a copy, but cost memory
SMALLEST = 8  # of the shorter side: smaller inputs are no images to us
CHANNELS = 4  # at most, else this is no image
CELLS = 6
BLANK = 1e-3  # contrast, as a share of the largest value, of an image with nothing on it
FAINT = 1e-2  # contrast, as a share of the image's, of a window with nothing on it
LOOKED_AT = 2  # windows that are looked at closely, of all that the first step compares
ALIKE = 0.6  # correlation below which a closer look is not worth while


def are_images(inputs: Tensor) -> bool:
    """Say whether inputs, shape [B, ...], look like images, shape [B, C, H, W]."""
    sizes = inputs.shape
    return len(sizes) == 4 and sizes[1] <= CHANNELS and min(sizes[2:]) >= SMALLEST and not inputs.is_complex()


def reduced(images: Tensor) -> Tensor:
    """Return images, shape [B, C, H, W], in 32 x 32 pixels at most, channels centred, contrast 1; blank ones as 0."""
    images = images.to(torch.float32).nan_to_num(0.0, 0.0, 0.0)
    size = min(images.shape[2], SIDE), min(images.shape[3], SIDE)
    small = images if images.shape[2:] == size else adaptive_avg_pool2d(images, size)
    largest = small.abs().amax((1, 2, 3), keepdim=True)
    small = small - small.mean((2, 3), keepdim=True)
    contrast = small.square().mean((1, 2, 3), keepdim=True).sqrt()
    return torch.where(contrast > BLANK * largest, small / contrast.clamp_min(1e-30), 0.0)


class Images:
    """Images to be searched for.

    Args:
        images: as `reduced` returns them, shape [n, C, h, w].
    """

    def __init__(self, images: Tensor) -> None:
        self.images = images.to(torch.float16)
        self.height, self.width = images.shape[2:]
        # The margin is what an image may be shifted by. Sizes of windows count in margins taken off.
        self.margins = max(1, round(self.height / 16)), max(1, round(self.width / 16))
        shifted = [self._place(2, y, x) for y in (0, 1, 2) for x in (0, 1, 2)]
        zoomed = [self._place(4, 2, 2), self._place(0, 0, 0)] if min(images.shape[2:]) >= SIDE // 2 else []
        self.places = torch.tensor([*shifted, *zoomed])  # [p, 3]: size, y, x
        self.cells = torch.stack(
            [self._cells(mirrored, p) for mirrored in (False, True) for p in self.places.tolist()]
        )

    def _place(self, size: int, y: int, x: int) -> tuple[int, int, int]:
        return size, y * self.margins[0], x * self.margins[1]

    def _cells(self, mirrored: bool, place: list[int]) -> Tensor:
        return torch.cat([self._cells_of(block, mirrored, place) for block in torch.split(self.images, 2048)])

    def _cells_of(self, images: Tensor, mirrored: bool, place: list[int]) -> Tensor:
        size, y, x = place
        height, width = self._extent(size)
        images = (images.flip(3) if mirrored else images).float()
        return _unit(adaptive_avg_pool2d(images[:, :, y : y + height, x : x + width], CELLS))

    def _extent(self, size: int) -> tuple[int, int]:
        return self.height - size * self.margins[0], self.width - size * self.margins[1]

    def nearest(self, images: Tensor, exact: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return, for each of `reduced` images of shape [B, C, h, w], which image is most alike, and its likeness.

        Args:
            images: to compare with those searched for.
            exact: shape [B], bool: whose likeness is wanted although it is low; by default none's.

        Returns:
            Indices and likenesses in [-1, 1], shape [B] each; -1 where nothing comes near.

        Raises:
            DataError: the images have another shape than those searched for.
        """
        if images.shape[1:] != self.images.shape[1:]:
            raise DataError(
                f"Images to compare must be of one size, found {list(self.images.shape[1:])} and "
                f"{list(images.shape[1:])} (channels, height, width)."
            )
        wanted = torch.zeros(len(images), dtype=torch.bool) if exact is None else exact
        images = self._cut(images, *torch.tensor([self._place(2, 1, 1)]).expand(len(images), 3).T)
        cells = _unit(adaptive_avg_pool2d(images, CELLS))
        found = [(cells @ mine.T).max(dim=1) for mine in self.cells]  # one variant at a time, to save memory
        values = torch.stack([f.values for f in found])  # [2p, B]
        indices = torch.stack([f.indices for f in found])
        best, variants = values.topk(LOOKED_AT, dim=0)
        plain, fine = _unit(images), _unit(_detail(images))
        likeness, index = torch.full((len(images),), -1.0), indices[variants[0], torch.arange(len(images))]
        for value, variant in zip(best, variants, strict=True):
            rows = ((value > ALIKE) | wanted).nonzero()[:, 0]
            if len(rows):
                chosen = indices[variant[rows], rows]
                found_here = self._look_closely(plain[rows], fine[rows], chosen, variant[rows], wanted[rows])
                better = found_here > likeness[rows]
                likeness[rows[better]], index[rows[better]] = found_here[better], chosen[better]
        return index, likeness

    def _look_closely(self, plain: Tensor, fine: Tensor, chosen: Tensor, variants: Tensor, wanted: Tensor) -> Tensor:
        """Return the likeness of row i of ``plain`` and ``fine`` to image ``chosen[i]``, near the window found."""
        mirrored, place = variants >= len(self.places), self.places[variants % len(self.places)]
        images = self.images[chosen].float()
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
        size, y, x = place.T
        best = torch.full((len(plain),), -1.0)
        kept = torch.stack([size, y, x])
        start = kept.clone()
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                self._try(images, plain, best, kept, start[0], start[1] + dy, start[2] + dx)
        start = kept.clone()
        for change in (-1, 1):  # of the size, around the same middle
            half = [change * margin / 2 for margin in self.margins]
            moved = [(start[k + 1] + math.floor(half[k] + 0.5)) for k in (0, 1)]
            self._try(images, plain, best, kept, start[0] + change, *moved)
        likeness = torch.full((len(plain),), -1.0)
        rows = ((best > ALIKE) | wanted).nonzero()[:, 0]
        if len(rows):
            windows = self._cut(images[rows], *kept[:, rows])
            likeness[rows] = (_unit(_detail(windows)) * fine[rows]).sum(1)
        return likeness

    def _try(
        self, images: Tensor, plain: Tensor, best: Tensor, kept: Tensor, size: Tensor, y: Tensor, x: Tensor
    ) -> None:
        """Keep these windows, in place, where they correlate better than the best so far."""
        inside = (size >= 0) & (size <= 4) & (y >= 0) & (x >= 0)
        inside &= (y <= size * self.margins[0]) & (x <= size * self.margins[1])
        rows = inside.nonzero()[:, 0]
        if len(rows):
            place = torch.stack([size, y, x])[:, rows]
            found = (_unit(self._cut(images[rows], *place)) * plain[rows]).sum(1)
            better = found > best[rows]
            best[rows[better]] = found[better]
            kept[:, rows[better]] = place[:, better]

    def _cut(self, images: Tensor, size: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """Return one window of each image, brought to the size of the usual ones."""
        usual = self._extent(2)
        out = images.new_empty(len(images), images.shape[1], *usual)
        for one in torch.unique(size).tolist():
            rows = (size == one).nonzero()[:, 0]
            height, width = self._extent(one)
            windows = images.unfold(2, height, 1).unfold(3, width, 1)[rows, :, y[rows], x[rows]]
            same = (height, width) == usual
            out[rows] = windows if same else interpolate(windows, usual, mode="bilinear", align_corners=False)
        return out


def _unit(maps: Tensor) -> Tensor:
    """Return maps, shape [n, C, h, w], centred by channel, as vectors of length 1, shape [n, D]; faint ones as 0."""
    flat = (maps - maps.mean((2, 3), keepdim=True)).flatten(1)
    length = flat.norm(dim=1, keepdim=True)
    return torch.where(length > FAINT * math.sqrt(flat.shape[1]), flat / length.clamp_min(1e-30), 0.0)


def _detail(images: Tensor) -> Tensor:
    """Return what is coarser than a pixel or two, and finer than a quarter of the side."""
    side = min(images.shape[2:])
    return _blurred(images, 3 if side >= 24 else 1) - _blurred(images, max(3, 2 * (side // 7) + 1))


def _blurred(images: Tensor, size: int) -> Tensor:
    """Return the mean over ``size`` x ``size`` pixels around each; beyond an edge the pixels of the edge go on."""
    rows, columns = (_averaging(n, size).to(images) for n in images.shape[2:])
    return rows @ images @ columns.T  # by far faster than pooling


@cache
def _averaging(count: int, size: int) -> Tensor:
    """Return the matrix, shape [count, count], that averages ``size`` neighbours."""
    around = torch.arange(count)[:, None] + torch.arange(size) - size // 2
    one_hot = torch.eye(count)[around.clamp(0, count - 1)]  # [count, size, count]
    return one_hot.mean(1)
