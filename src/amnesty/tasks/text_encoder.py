"""Text encoders of image generators: what they hand over for a concept becomes what they do for another one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from amnesty.errors import InvalidInputError, ModelError, UnknownNameError, one_line
from amnesty.tasks.base import Loss, Role, Source, device_of, evaluating, to_device
from amnesty.tasks.task import Task, Wish
from amnesty.tasks.teaching import frozen
from amnesty.tasks.zero_shot.classifier import ZeroShotClassifier
from amnesty.tasks.zero_shot.towers import shared_copy, stages_by_name
from amnesty.tasks.zero_shot.words import checked_templates, fill

Hidden = Literal["last", "penultimate", "pooled"]
"""What a pipeline reads of its text encoder; see `TextEncoder`."""

HIDDEN: tuple[Hidden, ...] = get_args(Hidden)
GROUPS = {"attention": r".*\b(self_attn|SelfAttention)\.", "all": r".*"}
_AT_ONCE = 64  # prompts


class HiddenStates(nn.Module):
    """What an image generator reads of its text encoder; maps token ids, shape [B, L], to numbers, shape [B, N].

    Args:
        encoder: such as ``CLIPTextModel``.
        hidden: what is read. Of several the numbers are scaled so that a mean over all is the mean of their means.

    Attributes:
        encoder: the text encoder itself, for ``pipe.text_encoder``.
    """

    def __init__(self, encoder: nn.Module, hidden: Sequence[Hidden]) -> None:
        super().__init__()
        self.encoder, self.hidden = encoder, tuple(hidden)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the numbers that are read, shape [B, N]."""
        said = self.encoder(input_ids=ids, output_hidden_states="penultimate" in self.hidden, return_dict=True)
        found = [self._read(said, one).flatten(1) for one in self.hidden]
        total = sum(x.shape[1] for x in found)
        return torch.cat([x * (total / len(found) / x.shape[1]) ** 0.5 for x in found], dim=1)

    def own_stages(self) -> tuple[tuple[str, ...], ...]:
        """Return the names of the parameters of each stage; for `amnesty.weights.stages`."""
        return tuple(map(tuple, stages_by_name(name for name, _ in self.named_parameters())))

    @staticmethod
    def _read(said: Any, hidden: Hidden) -> Tensor:
        if hidden == "last":
            found: Tensor = said.last_hidden_state
        elif hidden == "penultimate":
            found = said.hidden_states[-2]
        else:  # of an encoder with a projection, its output
            found = said.text_embeds if getattr(said, "text_embeds", None) is not None else said.pooler_output
        return found


class TextEncoder(Task):
    """A text encoder that must hand over, for a concept, what it hands over for an anchor; all else as before.

    The zero-shot game leaves it to chance whether an image generator forgets: it moves the one position that the
    pooled feature is read from, and a generator reads them all. This task moves what the generator reads. Each
    concept is a player.

    Args:
        encoder: of the generator, such as ``pipe.text_encoder``, a ``CLIPTextModel``. It is never changed.
        tokenizer: of the generator, of transformers.
        forget: concept -> anchor, words such as ``{"three": "four"}``. Best are words of equally many tokens.
        retain: further words that must stay as they are. The empty prompt, by which guidance tells every image from
            none, is always kept, and so are the anchors.
        templates: what words are put into, at ``{}`` or ``{label}``.
        hidden: what the generator reads: ``"last"`` (Stable Diffusion 1 and 2), ``"penultimate"`` (SDXL, SD3),
            ``"pooled"`` (FLUX), or several (``("penultimate", "pooled")`` for the second encoder of SDXL).
        train: ``"attention"``, ``"all"``, or a compiled regular expression of names of parameters.

    Raises:
        InvalidInputError: words that are empty, too long, or both forgotten and kept; nothing that may move.
        ModelError: the encoder does not give what is read, or cannot read the tokens.

    Source: measured for this library; see docs/clip.md.
    """

    model: HiddenStates

    def __init__(
        self,
        encoder: nn.Module,
        tokenizer: Any,
        *,
        forget: Mapping[str, str],
        retain: Sequence[str],
        templates: Sequence[str] = ("{}", "a photo of a {}"),
        hidden: Hidden | Sequence[Hidden] = "last",
        train: str | re.Pattern[str] = "all",
    ) -> None:
        concepts, kept = _checked_words(forget, retain)
        texts = checked_templates(templates)
        read: tuple[Any, ...] = (hidden,) if isinstance(hidden, str) else tuple(hidden)
        for one in read:
            if one not in HIDDEN:
                raise UnknownNameError("hidden state", one, HIDDEN)
        self._tokenizer = tokenizer
        original = frozen(HiddenStates(encoder, read))
        prompts = {
            name: [fill(t, word) for t in texts for word in words]
            for name, words in {**{c: [c] for c in concepts}, "retain": kept}.items()
        }
        anchors = {c: [fill(t, anchor) for t in texts] for c, anchor in concepts.items()}
        # Every image is told from what the empty prompt says, and one prompt of many drifts: a quarter are empty.
        prompts["retain"] += [""] * max(1, len(prompts["retain"]) // 3)
        ids = {name: self._ids(lines) for name, lines in prompts.items()}
        wanted = {name: _read(original, self._ids(anchors.get(name, lines))) for name, lines in prompts.items()}
        for concept in concepts:
            if torch.equal(ids[concept], self._ids(anchors[concept])):
                raise InvalidInputError(f"The tokenizer cannot tell {concept!r} and {concepts[concept]!r} apart.")
        data: dict[str, Source] = {name: TensorDataset(ids[name], wanted[name]) for name in prompts}
        sets = {name: data[name] for name in concepts}
        copy = shared_copy(encoder)
        _release(copy, train)
        self._original, self._checked = original, False
        self._pool = wanted["retain"][: len(kept) * len(texts)]  # without the empty prompts
        forgotten = sets if len(sets) > 1 else next(iter(sets.values()))
        super().__init__(HiddenStates(copy, read), forgotten, {"retain": data["retain"]})

    # What the players want.

    @property
    def learnt(self) -> Loss:
        """Squared distance from what is wanted."""
        return _Matched()

    def preserved(self) -> Role:
        """Return the retaining player: what is kept stays as it was."""
        return Role("retain", _Matched())

    def wished(self, wish: Wish, cap: float | None = None) -> Role:
        """Return a forgetting player: ``"auto"`` is the anchor's hidden state, ``"relabel"`` that of any kept prompt.

        Raises:
            InvalidInputError: ``"unseen"`` or ``"shifted"``, which texts do not have.
        """
        if wish in ("unseen", "shifted"):
            raise InvalidInputError(f"A text encoder has no unseen examples: use wish='auto', found {wish!r}.")
        if wish == "ascend":
            return self.ascended(cap)
        return Role("forget", _Matched()) if wish == "auto" else self.relabelled()

    def ascended(self, cap: float | None = None) -> Role:
        """Return a forgetting player: far from what the original says of the concept, up to a distance ``cap``."""
        if cap is not None and not cap > 0:
            raise InvalidInputError(f"`cap` must be positive, found {cap}.")
        return Role("forget", _Away(self._original, cap))

    def relabelled(self, exclude_true: bool = True) -> Role:
        """Return a forgetting player: the hidden states of kept prompts, drawn anew for each batch."""
        return Role("forget", _Matched(self._pool))

    # What it is.

    @property
    def probe(self) -> Tensor:
        """First token ids of the forget set, shape [2, L] at most."""
        part: Any = self.parts["forget"]
        return torch.stack([part[i][0] for i in range(min(2, len(part)))])

    def check(self) -> None:
        """Try the model. Raises `ModelError` if what it says is not finite."""
        if self._checked:
            return
        if not _read(self._original, self.probe).isfinite().all():
            raise ModelError("What the text encoder hands over is not finite.")
        self._checked = True

    def distances(self, model: nn.Module) -> dict[str, float]:
        """Return how far a model is from what is wanted, as shares of how far the concepts are from their anchors.

        ``"forget"``: of the concepts from their anchors, 1 for the original, 0 at the goal; ``"retain"``: of what is
        kept from the original, 0 at the goal. Both are root mean squares.
        """
        found = {}
        apart = _gap(self._original, self.parts["forget"])
        for part in ("forget", "retain"):
            found[part] = (_gap(model, self.parts[part]) / max(apart, 1e-30)) ** 0.5
        return found

    def _ids(self, texts: Sequence[str]) -> Tensor:
        longest = int(self._tokenizer.model_max_length)
        rows = self._tokenizer(list(texts), padding="max_length", max_length=longest, truncation=False, verbose=False)
        for text, row in zip(texts, rows["input_ids"], strict=True):
            if len(row) > longest:
                raise InvalidInputError(
                    f"A prompt has {len(row)} tokens, the encoder reads {longest}: {text[:80]!r}."
                )
        return torch.tensor(rows["input_ids"], dtype=torch.int64)


def text_encoder_of(classifier: ZeroShotClassifier, pipe: Any) -> nn.Module:
    """Return the text tower of an unlearned zero-shot classifier as the text encoder of a diffusers pipeline.

    It has the type of the pipeline's own encoder, its precision and device. Mind that the zero-shot game alone
    leaves it to chance what a generator draws: see `TextEncoder`.

    Args:
        classifier: whose towers are a ``CLIPModel`` of the checkpoint that the pipeline's encoder is of.
        pipe: is not changed.

    Raises:
        ModelError: the towers have no text model of transformers, or one that does not fit the pipeline.
    """
    own = pipe.text_encoder
    source: nn.Module | None = getattr(classifier.plain(), "text_model", None)
    if source is None:
        raise ModelError("Only the text tower of a `CLIPModel` of transformers can be handed to a pipeline.")
    made: nn.Module = type(own)(own.config)
    state = {name.removeprefix("text_model."): value for name, value in source.state_dict().items()}
    wanted = {name: name.removeprefix("text_model.") for name in made.state_dict()}
    lacking = [
        name
        for name, short in wanted.items()
        if short not in state or state[short].shape != made.state_dict()[name].shape
    ]
    if lacking or len(state) != len(wanted):
        raise ModelError(
            f"The text tower does not fit the pipeline's {type(own).__name__}"
            + (f": {lacking[0]!r} is missing or of another shape." if lacking else ": it has further weights.")
        )
    made.load_state_dict({name: state[short] for name, short in wanted.items()})
    return made.to(device_of(own), next(own.parameters()).dtype).eval()


@dataclass(frozen=True)
class _Matched:
    """Mean squared distance from what is wanted; with a ``pool``, from rows of it drawn anew."""

    pool: Tensor | None = None

    def __call__(self, model: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
        ids, wanted = to_device(tuple(batch), device_of(model))
        if self.pool is not None:
            rows = torch.randint(len(self.pool), (len(ids),), generator=generator)
            wanted = self.pool[rows].to(ids.device)
        found: Tensor = (model(ids) - wanted).square().mean()
        return found


@dataclass(frozen=True)
class _Away:
    original: nn.Module
    cap: float | None

    def __call__(self, model: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
        ids, _ = to_device(tuple(batch), device_of(model))
        with torch.no_grad():
            before = self.original.to(ids.device)(ids)
        # At the start the distance is 0, and so is its slope: a little noise says where to go.
        noise = torch.randn(before.shape, generator=generator).to(before) * before.std() * 1e-2
        each: Tensor = (model(ids) - before + noise).square().mean(dim=1)
        return -(each if self.cap is None else each.clamp(max=self.cap)).mean()


def _read(model: nn.Module, ids: Tensor) -> Tensor:
    try:
        with evaluating(model):
            blocks = [ids[k : k + _AT_ONCE].to(device_of(model)) for k in range(0, len(ids), _AT_ONCE)]
            found: Tensor = torch.cat([model(block) for block in blocks])
            return found.float().cpu()
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"The text encoder does not give what is to be read: {one_line(error)}") from error


def _gap(model: nn.Module, part: Any) -> float:
    ids, wanted = (torch.stack([part[i][k] for i in range(len(part))]) for k in (0, 1))
    return (_read(model, ids) - wanted).square().mean().item()


def _release(encoder: nn.Module, train: str | re.Pattern[str]) -> None:
    if isinstance(train, str) and train not in GROUPS:
        raise UnknownNameError("group of parameters", train, GROUPS)
    pattern = train if isinstance(train, re.Pattern) else re.compile(GROUPS[train])
    chosen = [p for name, p in encoder.named_parameters() if pattern.match(name)]
    if not chosen:
        raise InvalidInputError(f"`train={pattern.pattern!r}` names no parameter: everything would be frozen.")
    for p in chosen:
        p.requires_grad_(True)


def _checked_words(forget: Any, retain: Any) -> tuple[dict[str, str], list[str]]:
    if not isinstance(forget, Mapping) or not forget:
        raise InvalidInputError(
            f"`forget` must map concepts to anchors, such as {{'three': 'four'}}; found {forget!r}."
        )
    if isinstance(retain, str) or not all(isinstance(word, str) and word.strip() for word in retain):
        raise InvalidInputError(f"`retain` must list words, found {retain!r}.")
    for concept, anchor in forget.items():
        if not all(isinstance(word, str) and word.strip() for word in (concept, anchor)):
            raise InvalidInputError(f"Concepts and anchors must be words, found {concept!r} and {anchor!r}.")
        if concept in retain or concept in forget.values():
            raise InvalidInputError(
                f"{concept!r} is to be forgotten and kept: take it out of `retain` and the anchors."
            )
    return dict(forget), list(dict.fromkeys([*retain, *forget.values()]))
