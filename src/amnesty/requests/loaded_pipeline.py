"""An image generator as it was loaded, which knows how to be saved again."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from amnesty.requests.digests import file_hash
from amnesty.requests.loaded import ADAPTER, PIPELINE, LoadedModel, quiet, whole_folder
from amnesty.tasks.diffusion import Denoiser

_MODULES = ("unet", "transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3")


@dataclass(frozen=True, kw_only=True)
class LoadedPipeline(LoadedModel):
    """An image generator, its weights float32, whatever they were in its files.

    Attributes:
        model: the U-Net or transformer.
        pipeline: of diffusers, or a mapping or an object that has the parts of one by name.
        part: which of them is ``model``.
        types: name of a tensor of ``model`` -> its type as it was found, to be saved in.
        origin: the folder of the pipeline, whose other parts go with the result as they are; ``None`` for a
            function's.
        copied: its files that do, by their path in the result.
        separate: whether adapters are saved alone.
    """

    pipeline: Any
    part: str
    types: Mapping[str, torch.dtype] = field(default_factory=dict)
    origin: Path | None = None
    copied: Mapping[str, Path] = field(default_factory=dict)
    separate: bool = False

    @property
    def describe(self) -> Mapping[str, Any]:
        """What it is, as plain values."""
        kinds = sorted({str(kind).removeprefix("torch.") for kind in self.types.values()})
        return {
            **super().describe,
            "pipeline": type(self.pipeline).__name__,
            "part": self.part,
            "precision": kinds,
            "beside": {name: file_hash(path) for name, path in self.beside_by_name.items()},
        }

    @property
    def beside_by_name(self) -> dict[str, Path]:
        """The files that go with the model and are no weights, by their path in the folder."""
        assert self.origin is not None or not self.beside
        return {path.relative_to(self.origin).as_posix(): path for path in self.beside}  # type: ignore[arg-type]

    @property
    def halved(self) -> bool:
        """Whether weights had less precision than those that are trained."""
        return any(kind in (torch.float16, torch.bfloat16) for kind in self.types.values())

    def to(self, device: torch.device) -> None:
        """Move all parts to a device."""
        for module in modules_of(self.pipeline).values():
            module.to(device)

    def as_saved(self, model: Denoiser) -> Denoiser:
        """Return a model as whoever reads it from the folder has it: adapters merged, rounded to the saved types."""
        plain = model.plain()
        return Denoiser((plain if self.separate else rounded(plain, self.types)).float().eval(), model.family)

    def save(self, folder: Path, model: nn.Module) -> Path:
        """Write a whole pipeline with the backbone of ``model``; with ``separate`` its adapters alone.

        The pipeline is the folder ``pipeline``: of a folder, its other parts are copied as they are; of a function's
        mapping of parts, it holds the backbone alone. Adapters go to the folder ``adapter``.
        """
        assert isinstance(model, Denoiser)
        if self.separate:
            with whole_folder(folder / ADAPTER) as temporary:
                model.save_pretrained(temporary, merge=False)
            return folder / ADAPTER
        plain: Any = rounded(model.plain(), self.types)
        with whole_folder(folder / PIPELINE) as temporary, quiet():
            if self.origin is None and hasattr(self.pipeline, "register_modules"):
                whole = copy.copy(self.pipeline)
                whole.register_modules(**{self.part: plain})
                whole.save_pretrained(temporary)
            else:
                for name, path in self.copied.items():
                    _copy(path, temporary / name)
                plain.save_pretrained(temporary / self.part)
        return folder / PIPELINE


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)


def rounded(model: nn.Module, types: Mapping[str, torch.dtype]) -> nn.Module:
    """Give tensors of a model other types by name, in place; return it."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if name in types:
            tensor.data = tensor.data.to(types[name])
    return model


def modules_of(pipeline: Any) -> dict[str, nn.Module]:
    """Return the networks of a pipeline, a mapping or an object by name."""
    given = pipeline if isinstance(pipeline, Mapping) else {name: getattr(pipeline, name, None) for name in _MODULES}
    return {name: found for name in _MODULES if isinstance(found := given.get(name), nn.Module)}
