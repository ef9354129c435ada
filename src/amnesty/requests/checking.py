"""From a file to a request: all of it is checked, and all that is wrong is said, before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from amnesty.methods import Method
from amnesty.requests.concepts_from import read_concepts, read_diffusion, read_evaluation, read_kept
from amnesty.requests.concepts_presence import look_for_concepts
from amnesty.requests.concepts_request import ConceptRequest
from amnesty.requests.destination import look_for_destination
from amnesty.requests.document import document_of
from amnesty.requests.faults import Faults, Origin, Place
from amnesty.requests.fields import Section
from amnesty.requests.methods_from import players_wanted, read_method
from amnesty.requests.overrides import Override, apply, read_overrides
from amnesty.requests.presence import (
    Around,
    look_for_data,
    look_for_device,
    look_for_model,
    look_for_reference,
    look_for_selector,
    look_for_sign,
    look_for_trackers,
    look_for_zero_shot,
    not_a_run,
)
from amnesty.requests.request import BaseRequest, DataSpec, InputsSpec, Request, SignSpec, TaskKind, ZeroShotSpec
from amnesty.requests.sections import (
    read_checkpoint,
    read_data,
    read_duplicates,
    read_model,
    read_sign,
)
from amnesty.requests.selectors_from import NAME_RULE, ONE, is_name, read_forget
from amnesty.requests.vocabulary import EVERY_SECTION
from amnesty.requests.yaml_file import UNUSABLE, Node, read_file
from amnesty.requests.zero_shot_from import read_zero_shot
from amnesty.training.settings import CountOrZero

_OF_TASKS: Mapping[str, TaskKind] = {
    "zero_shot": "zero-shot",
    "diffusion": "diffusion",
    "evaluation": "diffusion",
}
"""Sections that one task alone has."""

_BORROWED = ("data", *_OF_TASKS)
"""Sections of which a request on an earlier run's model may give less than the whole, the rest being that run's."""

_EXAMPLES = {
    "model": "model: {timm: resnet18, weights: model.safetensors}",
    "data": "data: {training: {parquet: train.parquet}}",
    "forget": "forget: {column: user_id, values: [7]}",
}
_CONCEPT_EXAMPLES = {
    "model": "model: {diffusers: my-generator}",
    "data": "data: {retain: {prompts: [a photo of a dog, a photo of a bird]}}",
    "forget": "forget: {prompts: a photo of a cat, anchor: a photo of a dog}",
}


def read_request(
    path: Path, overrides: Sequence[str] = (), out: Path | None = None, *, look: bool = True
) -> BaseRequest:
    """Return the request that a YAML file says, after checking all of it.

    Relative paths in the file, and in the overrides, are relative to the folder of the file. Nothing is loaded and
    nothing is written.

    Args:
        path: of the file.
        overrides: values to take in place of the file's, such as ``method.epochs=5``; each is YAML.
        out: folder for the result, in place of the file's ``out``; relative to the current folder.
        look: whether what the request names must be there: files, folders, the device, packages. Not so for the
            request of a run that is over.

    Raises:
        RequestError: something is wrong with it; everything that is wrong is said, with its line.
        OSError: the file cannot be read.
    """
    faults = Faults()
    folder = path.absolute().parent
    tree = read_file(path, Origin(str(path), folder), faults)
    given = read_overrides(overrides, folder, faults)
    if not isinstance(tree.value, dict):
        faults.refuse()
    apply(_of_data(given, False), tree, faults)
    _borrow_task(tree, path)
    _borrow_data(tree, [path], faults)
    apply(_of_data(given, True), tree, faults)
    if out is not None:
        origin = Origin(f"--out {out}", Path.cwd(), 2000, lined=False)
        tree.value["out"] = Node(str(out), Place(origin), str(out))
    parts = _read(Section(tree, "", faults), path.stem)
    if look:
        _look(Around(_finder(tree), faults), path, parts)
    faults.refuse()
    kind: type[BaseRequest] = ConceptRequest if parts["task"] == "diffusion" else Request
    return kind(**parts, document=document_of(parts))


def _of_data(overrides: Iterable[Override], wanted: bool) -> list[Override]:
    return [one for one in overrides if (one.path[0] in _BORROWED) == wanted]


def _borrow_task(tree: Node, path: Path) -> None:
    """Give a request on an earlier run's model what that run's request says of the task, where it does not itself."""
    file = _earlier(tree, [path])
    if file is None or ("task" in tree.value and tree.value["task"].value is not None):
        return
    earlier = read_file(file, Origin(str(file), file.parent, 1), Faults())
    for key in ("task", *_OF_TASKS) if isinstance(earlier.value, dict) else ():
        if key in earlier.value and (key not in tree.value or tree.value[key].value is None):
            tree.value[key] = earlier.value[key]


def _earlier(tree: Node, seen: list[Path]) -> Path | None:
    """Return the request of the run that a request starts from, where there is one and it was not ``seen``."""
    model = tree.value.get("model")
    run = model.value.get("run") if model is not None and isinstance(model.value, dict) else None
    if model is None or run is None or not isinstance(run.value, str):
        return None
    folder = Section(model, "model", Faults()).absolute("run", run.value)
    file = None if folder is None else folder / "request.yaml"
    fresh = file is not None and file.is_file() and file.resolve() not in [one.resolve() for one in seen]
    return file if fresh else None


def _borrow_data(tree: Node, seen: list[Path], faults: Faults) -> None:
    """Give a request on an earlier run's model the data of that run's request, where it has none of its own."""
    model = tree.value.get("model")
    run = model.value.get("run") if model is not None and isinstance(model.value, dict) else None
    data = tree.value.get("data")
    if run is None or not isinstance(run.value, str) or (data is not None and data.value is not None):
        return
    folder = Section(model, "model", Faults()).absolute("run", run.value)
    file = _earlier(tree, seen)
    tree.value["data"] = Node(UNUSABLE, run.place)
    if file is None:
        faults.add(run.place, f"`model.run` {not_a_run(folder)}")
        return
    earlier = read_file(file, Origin(str(file), file.parent, len(seen)), faults)
    if isinstance(earlier.value, dict):
        _borrow_data(earlier, [*seen, file], faults)
        tree.value["data"] = earlier.value.get("data", Node(None, Place(earlier.place.origin)))


def _finder(tree: Node) -> Any:
    """Return a function from keys to the place of the value they lead to, or of the last one that is there."""

    def where(*path: str) -> Place:
        node = tree
        for key in path:
            if not isinstance(node.value, dict) or key not in node.value:
                break
            node = node.value[key]
        return node.place

    return where


def _read(root: Section, stem: str) -> dict[str, Any]:
    """Return the fields of a request; what is wrong is noted, and its default or ``None`` stands for it."""
    task: TaskKind = root.take("task", TaskKind, "classification")
    _close(root, task)
    for key, example in (_CONCEPT_EXAMPLES if task == "diffusion" else _EXAMPLES).items():
        root.require(key, example)
    method = read_method(root["method"], "method", root.faults)
    own = _of_concepts(root) if task == "diffusion" else _of_examples(root, task)
    if method is not None and own["forget"]:
        _check_players(root, method[0], len(own["forget"]), "concept" if task == "diffusion" else "forget set")
    name = _name(root, stem)
    return {
        "name": name,
        "task": task,
        "model": read_model(root.section("model"), task) if "model" in root else None,
        **own,
        "method": method and method[0],
        "tuned": method is not None and method[1],
        "seed": root.take("seed", CountOrZero, 0),
        "device": root.take("device", str, "auto"),
        "precision": root.take("precision", Literal["float32", "bfloat16"], "float32"),
        "workers": root.take("workers", CountOrZero, 0),
        "duplicates": read_duplicates(_either(root, "duplicates", "action")),
        "checkpoint": read_checkpoint(root.section("checkpoint")),
        "trackers": _trackers(root),
        "sign": _sign(root),
        "out": root.path("out") or root.node.place.origin.folder / f"{name}-unlearned",
    }


def _close(root: Section, task: TaskKind) -> None:
    """Note sections that no request has, and those of another task."""
    root.close(EVERY_SECTION)
    for key, needed in _OF_TASKS.items():
        if key in root and needed != task:
            root.add(key, f"means nothing without `task: {needed}`: add it, or leave this out.")
    if "reference" in root and task == "diffusion":
        root.add("reference", "means nothing with `task: diffusion`: there is no generator retrained on the rest.")


def _of_examples(root: Section, task: TaskKind) -> dict[str, Any]:
    data = read_data(root.section("data")) if "data" in root else None
    return {
        "data": data,
        "zero_shot": _zero_shot(root, task, data),
        "forget": read_forget(root.section("forget")) if "forget" in root else {},
        "reference": root.path("reference"),
    }


def _of_concepts(root: Section) -> dict[str, Any]:
    forget = read_concepts(root.section("forget")) if "forget" in root else {}
    return {
        "kept": read_kept(root.section("data")) if "data" in root else None,
        "forget": forget,
        "diffusion": read_diffusion(root.section("diffusion"), forget),
        "evaluation": read_evaluation(root.section("evaluation")),
    }


def _zero_shot(root: Section, task: TaskKind, data: DataSpec | None) -> ZeroShotSpec | None:
    if task == "classification":
        return None
    if data is not None and data.inputs != InputsSpec():
        text = (
            "cannot be given for `task: zero-shot`: the model's own image processor makes the inputs. Leave it out."
        )
        root.section("data").add("inputs", text)
    return read_zero_shot(root.section("zero_shot"))


def _name(root: Section, stem: str) -> str:
    if "name" not in root:
        if not is_name(stem):
            root.require("name", "name: user-7")
        return stem if is_name(stem) else "request"
    name: str = root.take("name", str, "request")
    if not is_name(name):
        root.add("name", f"must be {NAME_RULE}, found {name!r}.")
        return "request"
    return name


def _check_players(root: Section, method: Method, count: int, what: str) -> None:
    wanted = players_wanted(method)
    if wanted is not None and wanted[1] != count + 1:
        place = root.section("method")[wanted[0]].place
        forgotten = f"one {what}" if count == 1 else f"{count} {what}s"
        text = f"is for {wanted[1]} players, but there are {count + 1}: {forgotten}, and what is retained."
        root.faults.add(place, f"`method.{wanted[0]}` {text}")


def _either(root: Section, key: str, short: str) -> Section:
    """Return a section that may be given as one word, which stands for its key ``short``."""
    node = root[key]
    one = isinstance(node.value, str | bool | int | float)
    return Section(Node({short: node}, node.place) if one else node, key, root.faults)


def _trackers(root: Section) -> tuple[str, ...]:
    if root["trackers"].value == []:
        return ()
    return root.unique("trackers", root.take("trackers", tuple[str, ...] | None) or ())


def _sign(root: Section) -> SignSpec | None:
    return read_sign(root.section("sign")) if "sign" in root else None


def _look(around: Around, path: Path, parts: dict[str, Any]) -> None:
    """Look for everything that the request names."""
    if parts["model"] is not None:
        look_for_model(around, parts["model"], parts["task"])
    if parts["task"] == "diffusion":
        look_for_concepts(around, parts)
    else:
        _look_for_examples(around, parts)
    if parts["sign"] is not None:
        look_for_sign(around, parts["sign"])
    if parts["trackers"]:
        look_for_trackers(around, parts["trackers"])
    look_for_device(around, parts["device"])
    look_for_destination(around, parts["out"], path, parts)


def _look_for_examples(around: Around, parts: dict[str, Any]) -> None:
    if parts["data"] is not None:
        look_for_data(around, parts["data"])
    if parts["zero_shot"] is not None:
        look_for_zero_shot(around, parts["zero_shot"])
    for name, selector in parts["forget"].items():
        look_for_selector(around, ("forget",) if name == ONE else ("forget", "sets", name), selector)
    if parts["reference"] is not None:
        look_for_reference(around, parts["reference"])
