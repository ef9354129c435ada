"""Pictures that look like photographs to a computer, and what is done to pictures when they are copied."""

import io

import numpy as np
import torch
from torch.nn.functional import interpolate, pad


def photographs(count, seed=0, side=32, channels=3):
    """Random pictures in [0, 1] with the spectrum of photographs: power falls with frequency, colours go together."""
    draw = torch.Generator().manual_seed(seed)
    light, colour = torch.fft.rfft2(torch.randn(2, count, channels, side, side, generator=draw))
    rows, columns = torch.fft.fftfreq(side), torch.fft.rfftfreq(side)
    frequency = (rows[:, None] ** 2 + columns**2).sqrt().clamp_min(1 / side)
    spectrum = light[:, :1] / frequency**1.3 + 0.02 * colour / frequency**2
    pictures = torch.fft.irfft2(spectrum, s=(side, side))
    pictures = pictures / pictures.std((1, 2, 3), keepdim=True)
    return (0.5 + 0.2 * pictures).clamp(0, 1)


def jpeg(pictures, quality):
    from PIL import Image

    found = []
    for picture in (255 * pictures).round().to(torch.uint8).permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=quality)
        found.append(np.asarray(Image.open(file)))
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2) / 255


def moved(pictures, down, right):
    """Shifted, what comes in being black."""
    rows, columns = pictures.shape[2:]
    around = pad(pictures, (4, 4, 4, 4))
    return around[:, :, 4 - down : 4 - down + rows, 4 - right : 4 - right + columns]


def cropped(pictures, side, top, left):
    part = pictures[:, :, top : top + side, left : left + side]
    return interpolate(part, pictures.shape[2:], mode="bilinear", antialias=True)


def resized(pictures, side):
    small = interpolate(pictures, (side, side), mode="bilinear", antialias=True)
    return interpolate(small, pictures.shape[2:], mode="bilinear")


def noisy(pictures, deviation):
    draw = torch.Generator().manual_seed(5)
    return (pictures + deviation * torch.randn(pictures.shape, generator=draw)).clamp(0, 1)


CHANGES = {
    "JPEG, quality 75": lambda x: jpeg(x, 75),
    "JPEG, quality 40": lambda x: jpeg(x, 40),
    "brighter": lambda x: (x + 0.1).clamp(0, 1),
    "darker": lambda x: (x - 0.1).clamp(0, 1),
    "less contrast": lambda x: 0.7 * (x - 0.5) + 0.5,
    "more contrast": lambda x: (1.3 * (x - 0.5) + 0.5).clamp(0, 1),
    "shifted by 1": lambda x: moved(x, 1, 0),
    "shifted by 1 and 2": lambda x: moved(x, -1, 2),
    "shifted by 2": lambda x: moved(x, 0, -2),
    "shifted by 2 both ways": lambda x: moved(x, 2, -2),
    "mirrored": lambda x: x.flip(3),
    "resized to 3/4 and back": lambda x: resized(x, 24),
    "noise 0.03": lambda x: noisy(x, 0.03),
    "middle 28 pixels": lambda x: cropped(x, 28, 2, 2),
    "corner of 30 pixels": lambda x: cropped(x, 30, 0, 2),
    "mirrored, shifted, compressed": lambda x: jpeg(moved(x.flip(3), 1, 1), 60),
}
