"""Shadow models: many originals on random halves of a pool, what a method makes of each, and their retrained twins.

Per-example tests of forgetting (LiRA, U-LiRA, the unlearning challenge's epsilon, KLoM) compare laws over models,
hence need many of each kind. They share one pool: it is trained once and kept in a folder.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from amnesty.errors import InvalidInputError
from amnesty.files import write_json
from amnesty.methods import METHODS, Method
from amnesty.seeds import seeded
from amnesty.studies.describing import described, digest
from amnesty.studies.digits import Tell
from amnesty.studies.shadow_design import halves
from amnesty.studies.shadow_store import ShadowAnswers, Store, claim, recorded
from amnesty.studies.shadow_work import Job, ShadowError, Stage, in_processes, in_stacks
from amnesty.tasks import count_classes, inspect, unpack
from amnesty.tasks.inspection import Inspection
from amnesty.tasks.overlap import refuse_shared_indices
from amnesty.training import Recipe

__all__ = ["Engine", "ShadowAnswers", "ShadowError", "ShadowPool", "Trained"]

Engine = Literal["auto", "processes", "stacked"]
"""How models are trained: each by itself, in several processes, or many at once (`train_stacked`). ``"auto"``: as the
folder was begun, else stacked where there is CUDA."""

Trained = Literal["original", "retrained"]
"""Models that are trained, not unlearned."""


class ShadowPool:
    """M models trained on halves of a pool, in a folder; whatever is there already is read, not computed.

    Shadow s learns half of the pool; shadows 2k and 2k + 1 learn complementary halves (see `halves`), and each must
    forget the targets that it learnt. For every target, M/2 models learnt and forgot it and M/2 never met it; the
    retrained twin of each original learns what remains. Every model has seeds of its own for its first weights and
    its data order. On one machine the numbers depend neither on ``workers`` nor on interruptions.

    Args:
        folder: where everything is kept; made if needed. A killed run resumes there.
        data: the pool, n labelled examples that do not change from one reading to the next.
        fresh: makes an untrained model; its modules' ``reset_parameters`` draw the first weights.
        recipe: of originals and of retrained twins.
        targets: indices of the examples to forget; see `halves`.
        shadows: number of models M, even.
        seed: of everything.
        validation: unseen examples that methods may read.
        evaluated: e further examples that every model is asked about too, such as a holdout.
        workers: processes at a time.
        engine: of the training; see `Engine`. Methods run model by model.
        device: of the stacked engine; by default CUDA where it is available. Processes compute on the CPU.
        tell: told of progress, in words.

    Raises:
        InvalidInputError: arguments out of range, a folder that is a file or belongs to another design (the fields
            that differ are named), or a target with a duplicate in the pool.
        SplitError: ``validation`` or ``evaluated`` takes examples of the pool.
        DataError, ModelError: see `amnesty.train`.

    Attributes:
        design: who learns and forgets what; `trained`, `forgotten` and `groups` are its arrays.

    Source: Carlini et al., 2022, arXiv:2112.03570 (complementary halves); Hayes et al., 2024, arXiv:2403.01218
    (forgotten against never met, and against retrained). Here each shadow has one forget set, not several.

    Example:
        >>> from amnesty.data import Examples
        >>> data = Examples(torch.randn(40, 4), torch.arange(40) % 2)
        >>> def net(): return nn.Linear(4, 2)
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     pool = ShadowPool(folder, data, net, Recipe(epochs=1), range(8), shadows=4, workers=1)
        ...     margins = pool.originals()
        original: 1 of 4 models
        original: 2 of 4 models
        original: 3 of 4 models
        original: 4 of 4 models
        >>> margins.shape, pool.forgotten.sum(axis=0)[:9]
        ((4, 40), array([2, 2, 2, 2, 2, 2, 2, 2, 0]))
    """

    def __init__(
        self,
        folder: Path | str,
        data: Dataset[Any],
        fresh: Callable[[], nn.Module],
        recipe: Recipe,
        targets: Sequence[int] | np.ndarray,
        *,
        shadows: int = 64,
        seed: int = 0,
        validation: Dataset[Any] | None = None,
        evaluated: Dataset[Any] | None = None,
        workers: int = 2,
        engine: Engine = "auto",
        device: str | torch.device | None = None,
        tell: Tell = print,
    ) -> None:
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise InvalidInputError(f"`workers` must be a whole number of at least 1, found {workers!r}.")
        found = _inspected(data, validation, evaluated)
        self.design = halves(found["pool"].labels.numpy(), targets, shadows, seed)
        _refuse_duplicates(found["pool"], self.design.targets)
        self.folder, self.workers, self.tell = Path(folder), workers, tell
        store = Store(self.folder, sum(len(found[part].labels) for part in ("pool", "evaluated") if part in found))
        self._job = Job(store, self.design, data, evaluated, validation, fresh, recipe, seed)
        model = self._job.new_model()
        for part in found.values():
            part.check_labels(count_classes(model, part))
        self.engine, self._device = _engine(engine, device, recorded(self.folder))
        claim(self.folder, _record(self._job, model, found, self.engine, self._device.type))

    @property
    def trained(self) -> np.ndarray:
        """What each original learnt, bool, shape [M, n]."""
        return self.design.trained

    @property
    def forgotten(self) -> np.ndarray:
        """What each unlearned model learnt and forgot, bool, shape [M, n]."""
        return self.design.forgotten

    @property
    def groups(self) -> np.ndarray:
        """Number of each model's pair, shape [M]."""
        return self.design.groups

    def originals(self) -> np.ndarray:
        """Return the margins of the originals, float32, shape [M, n + e]; see `answers`."""
        return self.answers("original").margins

    def retrained(self) -> np.ndarray:
        """Return the margins of the retrained twins, float32, shape [M, n + e]; see `answers`."""
        return self.answers("retrained").margins

    def unlearned(self, method: Method) -> np.ndarray:
        """Return the margins of what a method makes of the originals, float32, shape [M, n + e]; see `answers`."""
        return self.answers(method).margins

    def answers(self, of: Trained | Method) -> ShadowAnswers:
        """Return what models say of the n examples of the pool and, after these, of the e others.

        What is missing is computed; the originals too, where a method needs them.

        Args:
            of: ``"original"``, ``"retrained"``, or a method with its settings, under which its answers are kept.

        Raises:
            InvalidInputError: ``of`` is none of these, or a setting is a function without a name of its own.
            DataError: a file cannot be read; the message names it.
            ShadowError: a model failed; the message says which and why.
        """
        stage = _stage(of)
        if stage.method is not None:
            self._complete(_stage("original"))
            (self.folder / stage.folder).mkdir(exist_ok=True)
            write_json(self.folder / stage.folder / "method.json", described(stage.method))
        self._complete(stage)
        return self._job.store.read(stage.folder, len(self.groups))

    def model(self, of: Trained, shadow: int) -> nn.Module:
        """Return an original or a retrained twin, on the CPU in evaluation mode.

        Raises:
            InvalidInputError: ``of`` is neither, or there is no such shadow.
            DataError, ShadowError: see `answers`.
        """
        if of not in get_args(Trained) or not 0 <= shadow < len(self.groups):
            raise InvalidInputError(
                f"Weights are kept of {' and '.join(get_args(Trained))} models 0 to {len(self.groups) - 1}, found "
                f"{of!r}, {shadow!r}."
            )
        self._complete(_stage(of))
        return self._job.store.load(of, shadow, self._job.new_model())

    def _complete(self, stage: Stage) -> None:
        missing = self._job.missing(stage)
        if not missing:
            return
        if self._device.type == "cuda" and not torch.cuda.is_available():
            raise InvalidInputError(
                f"{self.folder} was begun on CUDA, which is not here: {len(missing)} models of {stage.folder!r} "
                "cannot be computed as the others were. What is complete can be read."
            )
        if self.engine == "stacked" and stage.method is None:
            in_stacks(self._job, stage, missing, self._device, self.tell)
        else:
            workers = self.workers if self._device.type == "cpu" else 1
            in_processes(self._job, stage, missing, workers, self.tell, self._device)


def _stage(of: Trained | Method) -> Stage:
    if isinstance(of, Method):
        key = next((name for name, method in METHODS.items() if method is type(of)), type(of).__name__)
        return Stage(f"{key}-{digest(described(of))[:12]}", key, of)
    if of not in get_args(Trained):
        raise InvalidInputError(
            f"Expected {' or '.join(map(repr, get_args(Trained)))} or an instance of a method, such as "
            f"`amnesty.methods.MUNBa()`; found {of!r}."
        )
    return Stage(of, of)


def _inspected(
    data: Dataset[Any], validation: Dataset[Any] | None, evaluated: Dataset[Any] | None
) -> dict[str, Inspection]:
    """Read every part once: pool, and validation and evaluated if given."""
    given = {"pool": data, "validation": validation, "evaluated": evaluated}
    parts = {name: part for name, part in given.items() if part is not None}
    for name, part in parts.items():
        if isinstance(part, DataLoader) or not hasattr(part, "__getitem__"):
            raise InvalidInputError(
                f"The {name} must be a data set, not {type(part).__name__}: halves are drawn of it."
            )
        refuse_shared_indices({"pool": data} if name == "pool" else {"pool": data, name: part})
    with seeded(0, torch.device("cpu")):
        return {name: inspect(name, part, unpack) for name, part in parts.items()}


def _refuse_duplicates(pool: Inspection, targets: np.ndarray) -> None:
    seen = Counter(pool.hashes)
    twins = [int(i) for i in targets if seen[pool.hashes[i]] > 1]
    if twins:
        raise InvalidInputError(
            f"{len(twins)} targets, such as {twins[0]}, have a duplicate in the pool: a model could forget the one "
            "and keep the other. Leave them out of `targets`, or the duplicates out of the pool."
        )


def _engine(engine: Engine, device: Any, known: dict[str, Any]) -> tuple[Engine, torch.device]:
    """Return the engine and its device; a folder that was begun goes on as it was."""
    if engine not in get_args(Engine):
        raise InvalidInputError(f"`engine` must be one of {', '.join(get_args(Engine))}, found {engine!r}.")
    here = "cuda" if torch.cuda.is_available() else "cpu"
    if engine == "auto":
        engine = known.get("engine") or ("stacked" if device is not None or here == "cuda" else "processes")
    if engine == "processes":
        if device is not None and torch.device(device).type != "cpu":
            raise InvalidInputError(f"Processes compute on the CPU, not on {device!r}: choose the engine 'stacked'.")
        return engine, torch.device("cpu")
    return engine, torch.device(device if device is not None else known.get("device", here))


def _record(job: Job, model: nn.Module, found: dict[str, Inspection], engine: str, device: str) -> dict[str, Any]:
    """Return everything that the numbers of a pool depend on."""
    structure = re.sub(r" at 0x[0-9a-f]+", "", repr(model))
    state = {name: [str(x.dtype), list(x.shape)] for name, x in model.state_dict().items()}
    return {
        "schema": 1,
        **{part: _content(found[part]) if part in found else None for part in ("pool", "validation", "evaluated")},
        "targets": described(job.design.targets),
        "shadows": len(job.design.groups),
        "seed": job.seed,
        "recipe": asdict(job.recipe),
        "model": f"{type(model).__module__}.{type(model).__qualname__}",
        "structure": digest([structure, state]),
        "engine": engine,
        "device": device,
        "versions": {"amnesty": version("amnesty"), "torch": torch.__version__},
    }


def _content(part: Inspection) -> dict[str, Any]:
    """Return a part's size, its `amnesty.data.content_hash`, and a hash that knows the order of examples, too."""
    hashes = part.hashes
    content, ordered = (hashlib.sha256(b"".join(each)).hexdigest() for each in (sorted(hashes), hashes))
    return {"count": len(hashes), "content": content, "order": ordered}
