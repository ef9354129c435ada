"""What a deletion request says, once it has been read and found right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from amnesty.data import Selector
from amnesty.methods import Method
from amnesty.tasks.zero_shot import TEMPLATES, ForgetLoss, Group, RetainLoss

TaskKind = Literal["classification", "zero-shot", "diffusion"]
TASK_KINDS: tuple[TaskKind, ...] = get_args(TaskKind)

ModelKind = Literal["timm", "torchvision", "huggingface", "open_clip", "diffusers", "import", "run"]
MODEL_KINDS: tuple[ModelKind, ...] = get_args(ModelKind)

SourceKind = Literal["huggingface", "parquet", "images", "import"]
SOURCE_KINDS: tuple[SourceKind, ...] = get_args(SourceKind)

OnDuplicates = Literal["refuse", "move", "drop", "keep"]
ON_DUPLICATES: tuple[OnDuplicates, ...] = get_args(OnDuplicates)

Likeness = Literal["exact", "pixels", "features"]
LIKENESSES: tuple[Likeness, ...] = get_args(Likeness)

KeptAdapters = Literal["merged", "separate"]


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Which model.

    Attributes:
        kind: who makes it.
        name: by kind: an architecture of timm, torchvision or open_clip; a folder that ``save_pretrained`` of a model
            or of a pipeline wrote; ``package.module:function`` or ``file.py:function``, which makes a network, for
            ``task: zero-shot`` a pair of a network and its processor, and for ``task: diffusion`` a pipeline or a
            mapping of its parts; the folder of an earlier run.
        weights: a safetensors file, or one of ``torch.save`` that holds nothing but tensors. ``timm``,
            ``torchvision`` and ``open_clip`` need it, ``huggingface``, ``diffusers`` and ``run`` bring their own, for
            ``import`` it is optional.
        classes: how many the network tells apart; where it is ``None``, as many as the data has.
        options: further arguments of the architecture, or of the function.
    """

    kind: ModelKind
    name: str
    weights: Path | None = None
    classes: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SourceSpec:
    """Where examples come from.

    Attributes:
        kind: who reads it.
        name: by kind: a data set of the hub; a Parquet file, or a folder of ``<split>-*.parquet``; a folder with one
            sub-folder of images a class; a function that returns a data set.
        split: of hub data sets and folders of Parquet.
        image_column, label_column: of tables; ``None`` for the only column of images.
        caption_column: of tables of captioned images, in place of ``label_column``.
        limit: take the first so many examples only.
        options: arguments of the function.
    """

    kind: SourceKind
    name: str
    split: str = "train"
    image_column: str | None = None
    label_column: str = "label"
    caption_column: str = "caption"
    limit: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class InputsSpec:
    """How images become inputs; it must be what the model was trained with.

    Attributes:
        size: height and width to resize to, ``None`` as they are.
        channels: 1 (grey) or 3, ``None`` as they are.
        mean, std: of each channel, subtracted and divided by, for pixels in [0, 1]; ``None`` for neither.
    """

    size: tuple[int, int] | None = None
    channels: Literal[1, 3] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Which data.

    Attributes:
        training: what the model was trained on, as far as it is still at hand; examples to forget included.
        holdout: what it never saw: a source, or a selector of rows of ``training`` that were not trained on, or
            nothing.
        validation: unseen examples that methods may read: a source, or the share of ``holdout`` that is taken for it.
        inputs: see `InputsSpec`.
    """

    training: SourceSpec
    holdout: SourceSpec | Selector | None = None
    validation: SourceSpec | float = 0.5
    inputs: InputsSpec = field(default_factory=InputsSpec)


@dataclass(frozen=True, kw_only=True)
class DuplicatesSpec:
    """What to do about copies of the forget set among what is kept or never seen.

    Attributes:
        action: ``"refuse"`` stops; ``"move"`` forgets copies in the retain set too, and takes those among unseen
            examples out; ``"drop"`` takes both out; ``"keep"`` leaves them and says so.
        near: how copies are looked for beside equal hashes, in this order.
        threshold: likeness from which two examples count as copies, in (0, 1]; ``None``: found from the data.
    """

    action: OnDuplicates = "refuse"
    near: tuple[Likeness, ...] = ("exact", "pixels", "features")
    threshold: float | None = None


@dataclass(frozen=True, kw_only=True)
class TransferSpec:
    """Another data set, on which a zero-shot model must stay as good; see `amnesty.tasks.zero_shot.Transfer`.

    Attributes:
        data: where it comes from.
        class_names: of its labels; ``None`` for the names that the data has.
        templates: that fit its classes.
    """

    data: SourceSpec
    class_names: tuple[str, ...] | None = None
    templates: tuple[str, ...] = TEMPLATES


@dataclass(frozen=True, kw_only=True)
class ZeroShotSpec:
    """What ``task: zero-shot`` says beside model and data.

    What is not told here is as for `amnesty.tasks.zero_shot.ZeroShot`.

    Attributes:
        class_names: words for the labels; ``None`` for the names that the data has.
        bank: texts, or a file with one a line.
        adapters: whether low-rank adapters are merged into the saved model, or saved alone.
        transfers: name of another data set -> see `TransferSpec`.
    """

    class_names: tuple[str, ...] | None = None
    templates: tuple[str, ...] = TEMPLATES
    paraphrases: tuple[str, ...] = ()
    train: Group = "text_attention"
    lora: int | Mapping[str, Any] | None = None
    adapters: KeptAdapters = "merged"
    retain_loss: tuple[RetainLoss, ...] = ("ce",)
    forget_loss: ForgetLoss = "auto"
    anchor: str | None = None
    bank: tuple[str, ...] | Path = ()
    transfers: Mapping[str, TransferSpec] = field(default_factory=dict)
    captions: SourceSpec | None = None
    forget_captions: SourceSpec | None = None
    pairs: SourceSpec | None = None

    @property
    def captioned(self) -> dict[str, SourceSpec]:
        """The sources of captioned images by key, those that there are."""
        given = {"captions": self.captions, "forget_captions": self.forget_captions, "pairs": self.pairs}
        return {key: source for key, source in given.items() if source is not None}


@dataclass(frozen=True, kw_only=True)
class CheckpointSpec:
    """How often a run is saved: after so many ``steps``, after so many ``minutes``, whichever comes first."""

    steps: int | None = None
    minutes: float | None = 10.0


@dataclass(frozen=True, kw_only=True)
class SignSpec:
    """How the result is signed: with a private key file (PEM, elliptic curve), or by sigstore (needs the network)."""

    key: Path | None = None
    sigstore: bool = False


@dataclass(frozen=True, kw_only=True)
class BaseRequest:
    """What every deletion request says, whatever the model does.

    Attributes:
        name: of the request, for people and folders.
        task: what the model does.
        model: see `ModelSpec`.
        method: with its settings. tuned: whether the request gives any setting itself.
        seed: of data order, labels and noise.
        device: ``"auto"``, or one that PyTorch knows.
        precision: see `amnesty.unlearn`.
        workers: processes that read images that are not in memory.
        duplicates, checkpoint, sign: see their types.
        trackers: names of trackers that `accelerate` knows.
        out: folder for the result.
        document: the request as it is written to the result's request.yaml: plain values, every default filled in,
            every path absolute. Read again, it gives the same request.
    """

    name: str
    model: ModelSpec
    method: Method
    tuned: bool = False
    task: TaskKind = "classification"
    seed: int = 0
    device: str = "auto"
    precision: str = "float32"
    workers: int = 0
    duplicates: DuplicatesSpec = field(default_factory=DuplicatesSpec)
    checkpoint: CheckpointSpec = field(default_factory=CheckpointSpec)
    sign: SignSpec | None = None
    trackers: tuple[str, ...] = ()
    out: Path
    document: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Request(BaseRequest):
    """A deletion request for a model that was trained on examples: data, and which of it to forget.

    Attributes:
        data: see `DataSpec`.
        zero_shot: of ``task: zero-shot``; see `ZeroShotSpec`.
        forget: name of a forget set -> what belongs to it; one called ``"forget"`` where there is only one.
        reference: weights of a model retrained without the forget set, to compare with.
    """

    data: DataSpec
    forget: Mapping[str, Selector]
    zero_shot: ZeroShotSpec | None = None
    reference: Path | None = None
