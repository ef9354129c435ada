"""A request for an image generator, with everything that it names."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from amnesty.errors import InterruptedRunError, InvalidInputError
from amnesty.evaluation import Drawn, GenerationEvaluator, Scores, draw_images
from amnesty.files import write_json
from amnesty.requests.audit import PartFacts
from amnesty.requests.came_back import came_back
from amnesty.requests.concepts_request import ConceptRequest
from amnesty.requests.drawn_data import ConceptData, KeptData
from amnesty.requests.drawn_pictures import DRAWN, EACH, KEPT, drawn_facts, shown_prompts
from amnesty.requests.forgotten import Forgotten
from amnesty.requests.judges import Judges, spread
from amnesty.requests.leaks import Changes
from amnesty.requests.loaded_pipeline import LoadedPipeline
from amnesty.requests.pipelines import load_pipeline
from amnesty.requests.prepared import Prepared, Stopped, never
from amnesty.requests.prompt_hashes import joined, prompt_hash
from amnesty.requests.rechecking import Rechecked
from amnesty.requests.request import ModelSpec
from amnesty.requests.run_folder import scoring_in
from amnesty.studies.run_checks import ORIGINAL
from amnesty.tasks import device_of
from amnesty.tasks.diffusion import Denoiser, Diffusion, Prompt
from amnesty.unlearning import Outcome

_LISTED = 200  # kept prompts that a record lists


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedConcepts(Prepared):
    """A request for an image generator, with everything that it names.

    Attributes:
        concepts: what is forgotten. kept: what is kept.
        leaks: copies of images to forget among those kept, and what was done; ``None`` where none were searched for.
        judges: who judge what is drawn, if anybody does.
        made: what scores, by the folder of its images: it looks at real images once.
        asked_to_stop: called while images are drawn; raises where the run is to stop.
    """

    request: ConceptRequest
    loaded: LoadedPipeline
    task: Diffusion
    concepts: Mapping[str, ConceptData]
    kept: KeptData
    leaks: Changes | None
    judges: Judges | None
    made: dict[Path | None, GenerationEvaluator] = field(default_factory=dict, repr=False)
    asked_to_stop: list[Callable[[], None]] = field(default_factory=list, repr=False)

    # What is said of it.

    @property
    def asked(self) -> str:
        """The concepts, and how much is kept."""
        named = [_in_words(name, concept.prompts) for name, concept in self.concepts.items()]
        kept = self.task.kept
        return f"Forget {'; '.join(named)}. {len(kept):,} prompt{'s are' if len(kept) > 1 else ' is'} kept."

    @property
    def data(self) -> str:
        """Where what is kept comes from."""
        kept = self.request.kept
        if kept.images is not None:
            return f"{kept.images.kind}: {kept.images.name}"
        return "prompts, whose images the original draws"

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of images by part, given or drawn."""
        sets = self.task.sets or {next(iter(self.concepts)): self.task.parts["forget"]}
        return {name: len(part) for name, part in {**sets, "retain": self.task.parts["retain"]}.items()}  # type: ignore[arg-type]

    @property
    def parts_facts(self) -> Mapping[str, PartFacts]:
        """How many images each part has, and the hash of them, or of the prompts that they are drawn for."""
        counts = self.counts
        found = {name: _part(counts[name], concept) for name, concept in self.concepts.items()}
        of = "prompts" if self.kept.images is None else "images and prompts"
        return {**found, "retain": PartFacts(counts["retain"], self.kept.content, of)}

    @property
    def forgotten(self) -> Forgotten:
        """The hashes of the prompts and the images of each concept."""
        return Forgotten(self.request.name, {name: concept.all_hashes for name, concept in self.concepts.items()})

    @property
    def duplicates(self) -> Mapping[str, Any]:
        """What was found of copies of images, and what was done; or why nobody looked."""
        if self.leaks is not None:
            return self.leaks.describe()
        given = any(concept.images is not None for concept in self.concepts.values())
        what = "what is kept" if given else "what is to be forgotten"
        return {"action": None, "searched": False, "reason": f"There are no images of {what}: they are drawn."}

    @property
    def duplicate_counts(self) -> Mapping[str, Mapping[str, int]]:
        """Copies by part and kind."""
        return {} if self.leaks is None else self.leaks.found.counts()

    @property
    def holdout_protocol(self) -> str:
        """Say what is compared in place of unseen examples."""
        spec = self.request.evaluation
        return (
            "Concepts are forgotten, not examples: nothing stands for unseen examples. Before and after are compared "
            f"on images that both draw for the same prompts and seeds (seed {self.request.seed}, {spec.steps} steps)."
        )

    @property
    def task_facts(self) -> Mapping[str, Any]:
        """What a record says of the task: concepts, settings, how it was judged."""
        task, document = self.task, self.request.document
        sizes = [(p.numel(), p.requires_grad) for p in task.model.parameters()]
        evaluator = self._evaluator(scoring_in(self.request.out))
        return {
            "name": "diffusion",
            **document["diffusion"],
            "train": self.request.diffusion.train or task.kind.default,
            "forget_loss": task.forget_loss,
            "retain_loss": task.retain_loss,
            "family": task.kind.title,
            "predicts": task.process.noising.prediction,
            "image_size": list(task.size),
            "concepts": {name: _concept(concept) for name, concept in self.concepts.items()},
            "kept": self._kept_facts(),
            "judged": None if evaluator is None else evaluator.describe,
            "parameters": sum(size for size, _ in sizes),
            "trainable": sum(size for size, moves in sizes if moves),
        }

    def _kept_facts(self) -> dict[str, Any]:
        prompts = self.task.kept
        listed = {"prompts": list(prompts)} if len(prompts) <= _LISTED else {}
        images = "drawn by the original" if self.kept.images is None else len(self.kept.rows)
        return {"count": len(prompts), "sha256": joined(map(prompt_hash, prompts)), "images": images, **listed}

    @property
    def copied(self) -> int:
        """How many bytes of files go with the result as they are."""
        return 0 if self.loaded.separate else sum(path.stat().st_size for path in self.loaded.copied.values())

    # What is done.

    def check_drawing(self) -> None:
        """Try the sampler, and all judges on blank images.

        Raises:
            ModelError, DataError: the sampler cannot make so many steps, or a judge cannot look at such images.
        """
        rows = torch.tensor(self.task.process.conditions.rows(self.task.kept[:1]))
        self.task.drawer(self.task.model, **self._drawing).walk(rows, [torch.Generator()], 0)
        self._evaluator(scoring_in(self.request.out))

    def scored(self, outcome: Outcome, *, folder: Path | None = None, stop: Stopped = never) -> dict[str, Scores]:
        """Score what the original and the unlearned model draw; without judges there is nothing but the time."""

        def go_on() -> None:
            if stop():
                raise InterruptedRunError(
                    "Stopped while images were drawn to be judged, as asked.", len(outcome.history), folder
                )

        evaluator = self._evaluator(folder)
        if evaluator is None:
            return {ORIGINAL: Scores({}), self.method: Scores({"seconds": outcome.seconds})}
        self.asked_to_stop.append(go_on)
        try:
            after = self._as_saved(outcome)
            return {ORIGINAL: evaluator.original, self.method: evaluator(after, seconds=outcome.seconds)}
        finally:
            self.asked_to_stop.clear()

    def _evaluator(self, folder: Path | None = None) -> GenerationEvaluator | None:
        if self.judges is None:
            return None
        if folder not in self.made:
            self.made[folder] = GenerationEvaluator(
                self.task,
                **self.judges.arguments,
                **self._drawing,
                per_prompt=self.request.evaluation.per_prompt,
                kept_per_prompt=self.request.evaluation.kept_per_prompt,
                folder=folder if importlib.util.find_spec("PIL") is not None else None,
                seed=self.request.seed,
                progress=self._told,
            )
        return self.made[folder]

    def _told(self, done: int, total: int) -> None:
        for go_on in self.asked_to_stop:
            go_on()

    @property
    def _drawing(self) -> dict[str, Any]:
        spec = self.request.evaluation
        return {"steps": spec.steps, "guidance": spec.guidance, "batch_size": spec.batch_size}

    def _as_saved(self, outcome: Outcome) -> Denoiser:
        model: Any = outcome.model
        return self.loaded.as_saved(model).to(device_of(self.task.model))

    def rechecked(self, outcome: Outcome) -> tuple[Rechecked, ...]:
        """Let both models draw what earlier requests forgot, and ask the judge."""
        judge = None if self.judges is None else self.judges.judge
        models = (self.task.model, self._as_saved(outcome))
        drawers = [self.task.drawer(model, **self._drawing) for model in models]
        return came_back(self.earlier, judge, drawers, self.request.evaluation.per_prompt, self.request.seed)

    def write_beside(self, folder: Path, outcome: Outcome, scores: Mapping[str, Scores]) -> None:
        """Write small pictures of what was drawn before and after."""
        if importlib.util.find_spec("PIL") is None:
            return
        evaluator, after = self._evaluator(scoring_in(folder)), self._as_saved(outcome)
        kept = spread(self.task.kept if self.judges is None else self.judges.kept, KEPT)
        before, then = (self._pictures(evaluator, model, kept) for model in (self.task.model, after))
        judge = None if self.judges is None else self.judges.judge
        write_json(folder / DRAWN, drawn_facts(self.task, kept, before, then, judge))

    def _pictures(self, evaluator: GenerationEvaluator | None, model: Denoiser, kept: tuple[Prompt, ...]) -> Drawn:
        if evaluator is not None:
            return evaluator.images(model)
        counts = dict.fromkeys(shown_prompts(self.task, kept), EACH)
        return draw_images(self.task.drawer(model, **self._drawing), counts, seed=self.request.seed)

    def changed(self, audit: Mapping[str, Any]) -> list[str]:
        """Name what comes with the model, and parts of the data, where they are not as recorded."""
        found = []
        if self.before.about.get("beside") != audit["model"]["before"]["about"].get("beside"):
            found.append("its configuration, scheduler or tokenizer")
        recorded, own = audit["data"]["parts"], self.parts_facts
        names = sorted(recorded.keys() | own.keys())
        differing = [n for n in names if n not in own or recorded.get(n, {}).get("sha256") != own[n].sha256]
        return [*found, *(f"the data of the {name} part" for name in differing)]

    def scored_again(self, folder: Path) -> Mapping[str, float]:
        """Return the scores of the model that a run left in its folder.

        Raises:
            InvalidInputError: nobody judged what was drawn.
        """
        evaluator = self._evaluator()
        if evaluator is None:
            raise InvalidInputError("nobody judged what was drawn: there are no scores")
        model: Any = self.read_again(folder)
        return evaluator(model).own

    def read_again(self, folder: Path) -> nn.Module:
        """Return the denoiser that a run left in its folder, on the device of the task's."""
        loaded = load_pipeline(ModelSpec(kind="run", name=str(folder)))
        return Denoiser(loaded.model, self.task.kind).to(device_of(self.task.model)).eval()


def _in_words(name: str, prompts: tuple[Prompt, ...]) -> str:
    shown = ", ".join(f"class {one}" if isinstance(one, int) else repr(one) for one in prompts[:3])
    more = f" and {len(prompts) - 3} more" if len(prompts) > 3 else ""
    return f"{shown}{more}" if name == "forget" else f"{name} ({shown}{more})"


def _part(count: int, concept: ConceptData) -> PartFacts:
    if concept.images is None:
        return PartFacts(count, joined(map(prompt_hash, concept.prompts)), "prompts")
    return PartFacts(count, joined(concept.hashes), "images")


def _concept(concept: ConceptData) -> dict[str, Any]:
    given = {"count": len(concept.hashes), "sha256": joined(concept.hashes)}
    images = "drawn by the original" if concept.images is None else given
    return {"prompts": list(concept.prompts), "anchor": concept.anchor, "images": images}
