import dataclasses
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from amnesty.errors import InvalidInputError, ModelError
from amnesty.evaluation import Finding
from amnesty.files import write_text
from amnesty.requests.audit import (
    AuditError,
    AuditFacts,
    ModelFacts,
    PartFacts,
    inspect_audit,
    model_facts,
    part_facts,
    read_audit,
    write_audit,
)
from amnesty.requests.digests import canonical, text_hash
from amnesty.requests.forgotten import Forgotten, write_forgotten
from amnesty.requests.links import Link
from amnesty.weights import hash_weights, save_weights
from tests import tiny
from tests.requests.audited import every_flip

FACTS = AuditFacts(
    name="user-7",
    asked={"forget": {"column": "user_id", "values": [7]}},
    model_before=ModelFacts({}, "a" * 64, {"kind": "timm"}),
    method="munba",
    settings={"epochs": 2},
    tuned=False,
    seed=3,
    device="cpu",
    precision="float32",
    started=datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2))),
    ended=datetime(2026, 1, 1, 11, tzinfo=UTC),
    seconds=1.5,
    sittings=2,
    parts={"forget": PartFacts(2, "b" * 64)},
    holdout_protocol="Half of the holdout examples, drawn by class, for validation.",
    findings=[Finding("utility", "kept", "so it is")],
)
FORGOTTEN = Forgotten("user-7", {"forget": (b"\x01" * 32, b"\x02" * 32)})


@pytest.fixture
def folder(tmp_path):
    save_weights(tmp_path / "model.safetensors", tiny.mlp())
    write_text(tmp_path / "scores.json", json.dumps({"methods": {"munba": {"forget_accuracy": 0.1}}}))
    write_text(tmp_path / "history.jsonl", "{}\n{}\n")
    write_text(tmp_path / "request.yaml", "name: user-7\n")
    write_forgotten(tmp_path, FORGOTTEN)
    return tmp_path


def rewritten(folder, **changes):
    """A record with other content that names its own hash rightly, as somebody who knows how would write it."""
    document = read_audit(folder) | changes
    document = {key: value for key, value in document.items() if key != "sha256" and value is not ...}
    write_text(folder / "audit.json", canonical({**document, "sha256": text_hash(canonical(document))}))


def test_the_record_says_what_was_asked_and_done(folder):
    found = read_audit(write_audit(folder, FACTS).parent)
    assert found["forget"]["sets"] == {"forget": {"selector": {"column": "user_id", "values": [7]}, "count": 2}}
    assert found["forget"]["sha256"] == FORGOTTEN.sha256
    assert found["method"] == {"name": "munba", "settings": {"epochs": 2}, "tuned": False}
    assert found["time"] == {
        "started": "2026-01-01T10:00:00+00:00",
        "ended": "2026-01-01T11:00:00+00:00",
        "seconds": 1.5,
        "sittings": 2,
    }
    assert found["model"]["after"] == {"files": ["model.safetensors"], "tensors": hash_weights(tiny.mlp())}
    assert found["scores"]["methods"]["munba"] == {"forget_accuracy": 0.1}
    assert found["training"] == {"records": 2}
    assert found["findings"] == [{"question": "utility", "answer": "kept", "reason": "so it is"}]


def test_every_file_is_named_but_the_record_the_signature_and_what_is_left_of_the_run(folder):
    (folder / "trackers").mkdir()
    (folder / "checkpoint").mkdir()
    for name in ("trackers/events", ".hidden", "checkpoint/state", "model.sig", "audit.json"):
        write_text(folder / name, "x")
    expected = {".hidden", "forgotten.json", "history.jsonl", "model.safetensors", "request.yaml", "scores.json"}
    assert set(read_audit(write_audit(folder, FACTS).parent)["files"]) == expected | {"trackers/events"}


def test_the_same_facts_give_the_same_bytes(folder):
    first = write_audit(folder, FACTS).read_bytes()
    assert write_audit(folder, FACTS).read_bytes() == first


def test_a_signature_of_an_earlier_record_is_removed(folder):
    write_text(folder / "model.sig", "{}")
    write_audit(folder, FACTS)
    assert not (folder / "model.sig").exists()


def remove(name):
    return lambda folder: (folder / name).unlink()


def link(folder):
    (folder / "link").symlink_to(folder / "scores.json")


FAULTS = {
    "no model": (remove("model.safetensors"), {}, "holds no unlearned model"),
    "no scores": (remove("scores.json"), {}, "scores.json is missing or no JSON"),
    "no hashes": (remove("forgotten.json"), {}, "forgotten.json is missing"),
    "hashes of another": (None, {"name": "other"}, "is of another request than 'other'"),
    "other sets": (None, {"asked": {"first": 1, "second": 2}}, "is of another request"),
    "a link": (link, {}, "no plain file"),
    "NaN": (None, {"settings": {"lr": float("nan")}}, "JSON does not have"),
    "a tensor": (None, {"duplicates": {"x": tiny.blobs(3).images}}, "JSON does not have"),
    "no time zone": (None, {"ended": datetime(2026, 1, 1)}, "time zone"),
    "wrong type": (None, {"sittings": "two"}, "`time.sittings` must be a whole number"),
    "unfinished answer": (None, {"rechecked": [{"name": "x"}]}, r"`rechecked\[0\].answer` is missing"),
    "chain without hashes": (
        None,
        {
            "chain": [
                Link(
                    name="first",
                    audit_sha256="",
                    model_before="",
                    model_after="a" * 64,
                    forgotten=0,
                    forgotten_sha256="",
                    ended="",
                )
            ]
        },
        "The chain of requests does not hold",
    ),
}


@pytest.mark.parametrize(("change", "facts", "message"), FAULTS.values(), ids=FAULTS)
def test_what_cannot_stand_is_refused_and_nothing_written(folder, change, facts, message):
    if change:
        change(folder)
    before = sorted(folder.iterdir())
    with pytest.raises(InvalidInputError, match=message) as caught:
        write_audit(folder, dataclasses.replace(FACTS, **facts))
    assert "\n" not in str(caught.value)
    assert sorted(folder.iterdir()) == before


def test_a_damaged_model_is_refused(folder):
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="cannot be read"):
        write_audit(folder, FACTS)
    assert not (folder / "audit.json").exists()


class TestTheRecordItself:
    def test_any_changed_byte_is_found(self, folder):
        path = write_audit(folder, FACTS)
        for position in every_flip(path, range(path.stat().st_size)):
            document, wrong = inspect_audit(folder)
            assert document is None and wrong, position
        assert inspect_audit(folder)[0]

    @pytest.mark.parametrize(
        "edit",
        [
            lambda text: text + " ",
            lambda text: text.replace("\n", "\r\n"),
            lambda text: text.replace('"seed": 3', '"seed": 3, "seed": 3'),
            lambda text: json.dumps(json.loads(text)),
            lambda text: text.replace('"seed": 3', '"seed": 3.0'),
            lambda text: "",
            lambda text: "[]",
            lambda text: "[" * 10**5,
            lambda text: text.replace('"seed": 3', '"seed": 1e999'),
            lambda text: text.replace('"seed": 3', '"seed": ' + "9" * 5000),
        ],
        ids=["space", "line ends", "twice", "other form", "float", "empty", "list", "deep", "infinite", "huge"],
    )
    def test_another_form_of_the_same_is_found(self, folder, edit):
        path = write_audit(folder, FACTS)
        path.write_bytes(edit(path.read_text(encoding="utf-8")).encode())
        document, wrong = inspect_audit(folder)
        assert document is None and "it was changed" in wrong
        with pytest.raises(AuditError, match="audit.json"):
            read_audit(folder)

    def test_a_link_to_a_record_is_none(self, folder, tmp_path):
        path = write_audit(folder, FACTS)
        path.rename(folder / "other.json")
        path.symlink_to(folder / "other.json")
        assert inspect_audit(folder) == (None, "is no plain file")

    def test_a_hand_made_record_that_lacks_something_is_none(self, folder):
        write_audit(folder, FACTS)
        rewritten(folder, model=..., seed="3")
        document, wrong = inspect_audit(folder)
        assert document is None
        assert "`model` is missing" in wrong and "`seed` must be a whole number" in wrong

    def test_a_later_schema_is_not_guessed_at(self, folder):
        write_audit(folder, FACTS)
        rewritten(folder, schema=2)
        with pytest.raises(AuditError, match="reads schema 1"):
            inspect_audit(folder)

    def test_a_folder_without_one_says_why(self, folder):
        with pytest.raises(AuditError, match="not the folder of a finished run"):
            inspect_audit(folder)
        (folder / "checkpoint").mkdir()
        with pytest.raises(AuditError, match="has not come to its end"):
            inspect_audit(folder)


def test_a_model_is_hashed_as_it_was_read(tmp_path):
    model = tiny.mlp()
    save_weights(tmp_path / "w.safetensors", model)
    found = model_facts([tmp_path / "w.safetensors"], {})
    assert found.tensors == hash_weights(model)
    assert found.files["w.safetensors"]["size"] == (tmp_path / "w.safetensors").stat().st_size
    assert model_facts([], model.state_dict()).tensors == hash_weights(model)


def test_parts_are_counted_and_hashed():
    data = tiny.blobs(12)
    found = part_facts({"forget": data, "retain": tiny.blobs(12, seed=4)})
    assert found["forget"].count == 12
    assert found["forget"].sha256 != found["retain"].sha256
