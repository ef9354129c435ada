"""A model as it was loaded, which knows how to be saved again."""

from __future__ import annotations

import importlib
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from amnesty.requests.request import ModelSpec
from amnesty.weights import save_weights

WEIGHTS, PRETRAINED, PIPELINE, ADAPTER = "model.safetensors", "model", "pipeline", "adapter"
"""What the folder of a run holds of its model: a file, what ``save_pretrained`` of a model or of a pipeline wrote, or
adapters alone."""

INDEX = "model_index.json"
"""Names the parts of a pipeline of diffusers."""


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A network with its weights, in evaluation mode, on the CPU.

    Attributes:
        model: the network.
        spec: what made it; for the model of an earlier run, what made the first one.
        files: the files its weights were read from.
        classes: how many it tells apart, ``None`` where only a try can tell.
        class_names: where the model itself names its classes.
        pretrained: whether it is one of ``save_pretrained``, to be saved as such.
        beside: files to be saved with it: how it wants its inputs.
        chain: folders of the earlier runs it comes from, the latest first.
    """

    model: nn.Module
    spec: ModelSpec
    files: tuple[Path, ...] = ()
    classes: int | None = None
    class_names: tuple[str, ...] | None = None
    pretrained: bool = False
    beside: tuple[Path, ...] = ()
    chain: tuple[Path, ...] = ()

    @property
    def describe(self) -> Mapping[str, Any]:
        """What it is, as plain values."""
        return {
            "kind": self.spec.kind,
            "name": self.spec.name,
            "options": dict(self.spec.options),
            "type": type(self.model).__name__,
            "classes": self.classes,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "files": [str(path) for path in self.files],
            "chain": [str(folder) for folder in self.chain],
        }

    def save(self, folder: Path, model: nn.Module) -> Path:
        """Write ``model``, of the same architecture, into ``folder``, whole or not at all; return where it is.

        It is the file ``model.safetensors``, or for a model of ``save_pretrained`` the folder ``model``, in place of
        one that is there.

        Raises:
            OSError: the folder cannot be written to, or the disk is full; it is then as it was.
        """
        if not self.pretrained:
            save_weights(folder / WEIGHTS, model)
            return folder / WEIGHTS
        target = folder / PRETRAINED
        with whole_folder(target) as temporary:
            self._save_pretrained(temporary, model)
        return target

    def _save_pretrained(self, folder: Path, model: Any) -> None:
        with quiet():
            model.save_pretrained(folder)
        for path in self.beside:
            shutil.copyfile(path, folder / path.name)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep `transformers`, and `diffusers` where it is loaded, from printing: what matters is raised as an error."""
    with ExitStack() as stack:
        stack.enter_context(_silent("transformers.utils.logging"))
        if "diffusers" in sys.modules:
            stack.enter_context(_silent("diffusers.utils.logging"))
        yield


@contextmanager
def _silent(module: str) -> Iterator[None]:
    logging: Any = importlib.import_module(module)
    verbosity, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a new folder beside ``path`` to write to, and put it in the place of ``path`` at the end."""
    temporary, old = (path.with_name(f".{path.name}.{secrets.token_hex(8)}") for _ in range(2))
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            path.rename(old)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # gone already, unless something failed
        shutil.rmtree(old, ignore_errors=True)
