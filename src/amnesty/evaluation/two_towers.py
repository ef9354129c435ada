"""What a model of two towers makes of images and texts: every one of them passes through its tower once."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from amnesty.data import Batches, Joined, dataset_of, input_and_label
from amnesty.errors import InvalidInputError
from amnesty.evaluation.retrieval import Ranks, ranks
from amnesty.seeds import derive, seeded
from amnesty.tasks import Source, device_of, evaluating
from amnesty.tasks.zero_shot import ZeroShot, ZeroShotClassifier
from amnesty.tasks.zero_shot.classifier import sees_alike
from amnesty.tasks.zero_shot.pixels import Captioned, pixels_of

PROBED = 10_000
"""Images that a linear probe is trained on, at most."""

_AT_ONCE = 256  # images


@dataclass(frozen=True, eq=False)
class Said:
    """Images with captions, each of them once.

    Attributes:
        images: which images of the data are the first of their kind, u of them.
        texts: the different captions, m of them.
        pairs: which image is with which caption, shape [2, n].
    """

    images: list[int]
    texts: tuple[str, ...]
    pairs: Tensor

    @classmethod
    def of(cls, source: Captioned) -> Said:
        """Read all images and captions, without a model."""
        images: dict[bytes, int] = {}
        texts: dict[str, int] = {}
        first, pairs = [], []
        for start in range(0, len(source), _AT_ONCE):
            rows = list(range(start, min(start + _AT_ONCE, len(source))))
            for row, image, text in zip(rows, *source.read(rows), strict=True):
                key = image_hash(image)
                if key not in images:
                    images[key] = len(images)
                    first.append(row)
                pairs.append((images[key], texts.setdefault(text, len(texts))))
        return cls(first, tuple(texts), torch.tensor(pairs).T)


class Looked:
    """What is looked at of a task: the same for every model, and read once.

    Args:
        task: the original is its model.
        seed: of the choice of images that a probe is trained on.
    """

    def __init__(self, task: ZeroShot, seed: int = 0) -> None:
        self.task, self._seed = task, seed
        self._captions: dict[str, Said] = {}

    def captions(self, name: str) -> Said:
        """Return the images and captions of ``"captions"`` or ``"forget_captions"``.

        Raises:
            InvalidInputError: the task has none.
        """
        if name not in self.task.captioned:
            raise InvalidInputError(f"it needs images with captions: give the task `{name}`.")
        if name not in self._captions:
            self._captions[name] = Said.of(pixels_of(self.task.captioned[name]))
        return self._captions[name]

    @cached_property
    def gone(self) -> list[int]:
        """Classes that are forgotten altogether; without a retain set all that occur in the forget set."""
        if "retain" in self.task.parts:
            return list(self.task.forgotten_classes)
        return sorted(set(self.task.labels("forget").tolist()))

    @cached_property
    def kept(self) -> list[int]:
        """The other classes."""
        return sorted(set(range(self.task.classes)) - set(self.gone))

    @cached_property
    def learnt(self) -> Source:
        """Forgotten and retained images, some of both where there are more than `PROBED`."""
        count = sum(len(self.task.labels(part)) for part in ("forget", "retain"))
        return Joined([self.some(part, min(1.0, PROBED / count)) for part in ("forget", "retain")])

    def some(self, part: str, share: float) -> Dataset[Any]:
        """Return a random share of a part, in its order."""
        data: Any = dataset_of(self.task.parts[part], part)
        most = math.ceil(share * len(data))
        drawn = np.random.default_rng(derive(self._seed, "probe", part)).permutation(len(data))[:most]
        return data if most == len(data) else Subset(data, sorted(drawn.tolist()))


class Encoded:
    """What one model makes of the images and texts of a task.

    It runs in evaluation mode, float32, on its own device, some images at a time; what is returned is on the CPU.

    Args:
        looked: at what.
        model: to be asked.

    Attributes:
        sees_alike: whether its image tower is that of the task's model.
    """

    def __init__(self, looked: Looked, model: ZeroShotClassifier) -> None:
        self.looked, self.task, self.model = looked, looked.task, model
        self.sees_alike = sees_alike(looked.task.model, model)

    def images(self, source: Source) -> tuple[Tensor, Tensor]:
        """Return unit features, shape [n, d], and labels, shape [n], of images."""
        features, labels = zip(*self._pass(source), strict=True)
        return torch.cat(features), torch.cat(labels)

    def _pass(self, source: Source) -> Iterator[tuple[Tensor, Tensor]]:
        if not self.sees_alike:
            source = pixels_of(source)  # features that were computed once are of another tower
        device = device_of(self.model)
        with evaluating(self.model), seeded(0, device), torch.autocast(device.type, enabled=False):
            for inputs, label in map(input_and_label, Batches(source, _AT_ONCE).iterate()):
                yield self.model.image_features(inputs.to(device)).float().cpu(), label.cpu()

    def texts(self, ids: Tensor) -> Tensor:
        """Return unit features of token ids, shape [n, L] -> [n, d]."""
        with evaluating(self.model), torch.autocast(device_of(self.model).type, enabled=False):
            return self.model.text_features(ids).float().cpu()

    def logits(self, images: Tensor, names: Sequence[str], templates: Sequence[str]) -> Tensor:
        """Return the logits of images by their features, among any classes, shape [n, d] -> [n, K]."""
        asked = self.model.asking(names, templates)
        device = device_of(asked)
        with evaluating(asked), torch.autocast(device.type, enabled=False):
            classes = asked.class_features()
            blocks = torch.split(images, 4096)
            return torch.cat([asked.compare(block.to(device), classes).float().cpu() for block in blocks])

    def right(self, images: Tensor, labels: Tensor, names: Sequence[str], templates: Sequence[str]) -> np.ndarray:
        """Say which images are told to be of their class, bool, shape [n]."""
        found: np.ndarray = (self.logits(images, names, templates).argmax(dim=1) == labels).numpy()
        return found

    @cached_property
    def transfers(self) -> dict[str, np.ndarray]:
        """By other data set: which images are told to be of their class."""
        return {
            name: self.right(*self.images(other.data), other.class_names, other.templates)
            for name, other in self.task.transfers.items()
        }

    @cached_property
    def held(self) -> tuple[Tensor, Tensor]:
        """Features and labels of the unseen images.

        Raises:
            InvalidInputError: there are none.
        """
        if "holdout" not in self.task.parts:
            raise InvalidInputError("it needs unseen images: give the task a `holdout` part.")
        return self.images(self.task.parts["holdout"])

    @cached_property
    def kept_images(self) -> Tensor:
        """Features of unseen images of the classes that are kept; of retained images where there are none.

        Raises:
            InvalidInputError: there are none of either.
        """
        if "holdout" in self.task.parts:
            found = self.held[0][torch.isin(self.held[1], torch.tensor(self.looked.kept, dtype=torch.int64))]
            if len(found):
                return found
        if "retain" not in self.task.parts:
            raise InvalidInputError("it needs images that are kept: give the task a `retain` or `holdout` part.")
        return self.images(self.looked.some("retain", min(1.0, PROBED / len(self.task.labels("retain")))))[0]

    @cached_property
    def kept_texts(self) -> Tensor:
        """Features of the prompts of the classes that are kept.

        Raises:
            InvalidInputError: none is.
        """
        if not self.looked.kept:
            raise InvalidInputError("it needs a class that is kept, and all are forgotten.")
        return self.texts(self.task.model.prompts[self.looked.kept].flatten(0, 1))

    @cached_property
    def paraphrased(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """Which forgotten images are told to be of their class, by all paraphrases together and by each alone.

        Raises:
            InvalidInputError: there is no paraphrase.
        """
        if not self.task.paraphrases:
            raise InvalidInputError("it needs further templates: give the task `paraphrases`.")
        ask = partial(self.right, *self.images(self.task.parts["forget"]), self.task.class_names)
        return ask(self.task.paraphrases), [ask([template]) for template in self.task.paraphrases]

    @cached_property
    def probed(self) -> np.ndarray:
        """Which unseen images of forgotten classes a linear probe on image features tells to be of their class.

        Raises:
            InvalidInputError: there are no such images, or none to train it on.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        images, labels = self.held
        gone = torch.isin(labels, torch.tensor(self.looked.gone, dtype=torch.int64))
        if "retain" not in self.task.parts or not gone.any():
            raise InvalidInputError(
                "it needs a class that is forgotten altogether, unseen images of it, and `retain`."
            )
        train, true = self.images(self.looked.learnt)
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, class_weight="balanced"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a probe near its optimum is a probe
            probe.fit(train.double().numpy(), true.numpy())
        found: np.ndarray = probe.predict(images[gone].double().numpy()) == labels[gone].numpy()
        return found

    @cached_property
    def captions(self) -> tuple[Ranks, Ranks]:
        """Ranks of the right captions of images, and of the right images of captions; raises as `Looked.captions`."""
        said, images, texts = self._features("captions")
        return ranks(images, texts, said.pairs), ranks(texts, images, said.pairs.flip(0))

    def fit(self, name: str) -> np.ndarray:
        """Return the cosine of every image with its caption, shape [n]; raises as `Looked.captions`."""
        said, images, texts = self._features(name)
        return (images[said.pairs[0]] * texts[said.pairs[1]]).sum(dim=1).double().numpy()

    def _features(self, name: str) -> tuple[Said, Tensor, Tensor]:
        said = self.looked.captions(name)
        chosen = self.task.captioned[name]
        pixels = chosen if self.sees_alike else pixels_of(chosen)
        images = torch.cat([found for found, _ in self._pass(Subset(pixels, said.images))])
        return said, images, self.texts(self.model.reading(said.texts))


def image_hash(image: Any) -> bytes:
    """Return SHA-256 of an image: of a tensor or of PIL, as the data set has it."""
    if isinstance(image, Tensor):
        array = image.detach().cpu().contiguous().numpy()
        facts, content = (str(array.dtype), array.shape), array.tobytes()
    else:
        facts, content = (image.mode, image.size), image.tobytes()
    return hashlib.sha256(repr(facts).encode() + content).digest()
