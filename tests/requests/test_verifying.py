import json
import shutil

import pytest

from amnesty.errors import DataError
from amnesty.files import write_text
from amnesty.requests import signing
from amnesty.requests.audit import AuditError, read_audit
from amnesty.requests.digests import described, file_hash
from amnesty.requests.signing import SigningError
from amnesty.requests.verifying import verify
from tests.requests import audited
from tests.requests.audited import copied, every_flip, flipped
from tests.requests.test_audit import rewritten

try:
    signing._library("signing")
    SIGNS = True
except ImportError:
    SIGNS = False

needs_signing = pytest.mark.skipif(not SIGNS, reason="the extra `sign` is not installed")


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return audited.write_keys(tmp_path_factory.mktemp("keys")) if SIGNS else (None, None)


@pytest.fixture(scope="module")
def made(tmp_path_factory, keys):
    return audited.run(tmp_path_factory.mktemp("made") / "run", sign_with=keys[0])


@pytest.fixture
def folder(made, tmp_path):
    return copied(made, tmp_path / "run")


@pytest.fixture
def unsigned(folder):
    (folder / "model.sig").unlink(missing_ok=True)
    rewritten(folder, signature=None)
    return folder


def named(found, *words):
    assert not found.ok
    lines = [line for line in found.problems if all(word in line for word in words)]
    assert lines, found.problems
    return lines


def test_a_run_as_it_was_left_holds(folder, keys):
    found = verify(folder, key=keys[1])
    assert found.ok and found.problems == ()
    assert found.sha256 == file_hash(folder / "audit.json")
    assert any("stored answers" in line for line in found.checked)
    assert "Everything that was checked holds." in found.text and found.sha256 in found.text


def test_verifying_changes_nothing(folder):
    before = {path.name: (file_hash(path), path.stat().st_mtime_ns) for path in folder.iterdir()}
    verify(folder)
    assert {path.name: (file_hash(path), path.stat().st_mtime_ns) for path in folder.iterdir()} == before


def test_a_moved_or_renamed_folder_holds(folder, tmp_path):
    assert verify(folder.rename(tmp_path / "other name")).ok


class TestTampering:
    @pytest.mark.parametrize(
        ("name", "step"), [("request.yaml", 1), ("report.html", 1), ("history.jsonl", 7), ("forgotten.json", 7)]
    )
    def test_bytes_of_small_files(self, unsigned, name, step):
        for position in every_flip(unsigned / name, range(0, (unsigned / name).stat().st_size, step)):
            assert any(line.startswith(f"{name}: was changed") for line in verify(unsigned).problems), position
        assert verify(unsigned, data=False).ok

    @pytest.mark.parametrize("name", ["model.safetensors", "answers.parquet", "scores.json"])
    def test_heads_bodies_and_ends_of_larger_ones(self, unsigned, name):
        size = (unsigned / name).stat().st_size
        for _ in every_flip(unsigned / name, [*range(40), *range(40, size, size // 40), *range(size - 20, size)]):
            assert [line.partition(":")[0] for line in verify(unsigned).problems] == [name]

    def test_the_record_and_only_the_record(self, unsigned):
        size = (unsigned / "audit.json").stat().st_size
        for _ in every_flip(unsigned / "audit.json", range(0, size, size // 60)):
            assert [line.partition(":")[0] for line in verify(unsigned).problems] == ["audit.json"]

    @needs_signing
    def test_the_signature(self, folder):
        size = (folder / "model.sig").stat().st_size
        for _ in every_flip(folder / "model.sig", range(0, size, size // 60)):
            assert [line.partition(":")[0] for line in verify(folder).problems] == ["model.sig"]

    def test_added_missing_and_renamed_files(self, unsigned):
        write_text(unsigned / "deep.txt", "x")
        (unsigned / "inner").mkdir()
        write_text(unsigned / "inner" / ".hidden", "y")
        (unsigned / "report.html").rename(unsigned / "page.html")
        (unsigned / "history.jsonl").unlink()
        found = verify(unsigned)
        named(found, "deep.txt: was added")
        named(found, "inner/.hidden: was added")
        named(found, "history.jsonl: is missing")
        named(found, "report.html: is missing")
        named(found, "page.html: was added: it is report.html under another name")
        assert len(found.problems) == 5 and "5 problems." in found.text

    def test_swapped_files(self, unsigned):
        first, second = unsigned / "report.html", unsigned / "request.yaml"
        one, other = first.read_bytes(), second.read_bytes()
        first.write_bytes(other)
        second.write_bytes(one)
        named(verify(unsigned), "report.html: was changed: it holds what request.yaml held")

    def test_links_are_not_followed(self, unsigned, tmp_path):
        (unsigned / "model.safetensors").rename(tmp_path / "same.safetensors")
        (unsigned / "model.safetensors").symlink_to(tmp_path / "same.safetensors")
        named(verify(unsigned), "model.safetensors: is no plain file")
        (unsigned / "loop").symlink_to(unsigned)
        named(verify(unsigned), "loop: is no plain file")

    def test_what_is_left_of_a_run_is_named(self, unsigned):
        (unsigned / "checkpoint").mkdir()
        write_text(unsigned / "checkpoint" / "state.json", "{}")
        named(verify(unsigned), "checkpoint/state.json", "left from the run")

    def test_names_that_would_fake_a_line(self, unsigned):
        write_text(unsigned / "x\nEverything that was checked holds.", "x")
        assert all("\n" not in line for line in verify(unsigned).problems)

    def test_another_run_in_its_place(self, unsigned, tmp_path):
        noted = verify(unsigned).sha256
        shutil.rmtree(unsigned)
        audited.run(unsigned, chosen=range(30, 50))
        assert verify(unsigned, sha256=noted.upper()).problems and verify(unsigned).ok
        named(verify(unsigned, sha256=noted), "audit.json: has the SHA-256")

    def test_a_file_of_another_run(self, unsigned, tmp_path):
        other = audited.run(tmp_path / "other", chosen=range(30, 50))
        shutil.copy(other / "model.safetensors", unsigned / "model.safetensors")
        named(verify(unsigned), "model.safetensors: was changed")


class TestARecordWrittenAnew:
    """What somebody does who knows how the hashes are made; only a signature or a noted hash can stop him."""

    def forge(self, folder, name, content=None, **changes):
        if content is not None:
            write_text(folder / name, content)
        files = read_audit(folder)["files"] | {name: described(folder / name)}
        rewritten(folder, files=files, **changes)

    def better(self, folder):
        scores = json.loads((folder / "scores.json").read_text())
        scores["methods"]["munba"]["membership_auc"] = 0.5
        return scores

    def test_scores_that_differ_from_the_record(self, unsigned):
        self.forge(unsigned, "scores.json", json.dumps(self.better(unsigned)))
        named(verify(unsigned), "scores.json: its numbers are not those in audit.json")

    def test_scores_that_the_answers_contradict(self, unsigned):
        scores = self.better(unsigned)
        self.forge(unsigned, "scores.json", json.dumps(scores), scores=scores)
        (line,) = named(verify(unsigned), "answers.parquet: munba: `membership_auc` is recorded as 0.5, found")
        assert "retain" not in line

    def test_another_model(self, unsigned):
        path = unsigned / "model.safetensors"
        flipped(path, path.stat().st_size - 1)
        self.forge(unsigned, path.name)
        named(verify(unsigned), "model.safetensors: the tensors do not have the hash")

    def test_a_longer_history(self, unsigned):
        self.forge(unsigned, "history.jsonl", (unsigned / "history.jsonl").read_text() + "{}\n")
        named(verify(unsigned), "history.jsonl: holds")

    def test_fewer_forgotten_examples(self, unsigned):
        document = json.loads((unsigned / "forgotten.json").read_text())
        document["sets"]["forget"].pop()
        self.forge(unsigned, "forgotten.json", json.dumps(document, indent=1, sort_keys=True) + "\n")
        named(verify(unsigned), "forgotten.json: is not the list of examples")

    def test_another_request(self, unsigned):
        self.forge(unsigned, "request.yaml", "name: first\nseed: 7\n")
        named(verify(unsigned), "request.yaml: `seed` is 7, audit.json names 0")
        self.forge(unsigned, "request.yaml", "!!python/object/apply:os.system [exit]")
        named(verify(unsigned), "request.yaml: cannot be read")

    def test_other_data(self, unsigned):
        data = read_audit(unsigned)["data"]
        data["parts"]["forget"]["count"] = 3
        rewritten(unsigned, data=data)
        named(verify(unsigned), "fingerprint")

    def test_an_invented_past(self, unsigned):
        link = dict.fromkeys(("audit_sha256", "model_before", "model_after", "forgotten_sha256", "ended"), "f" * 64)
        rewritten(unsigned, chain=[{**link, "name": "x", "forgotten": 1, "forgotten_classes": [], "known": {}}])
        named(verify(unsigned), "chain: the model that 'x' left")

    @needs_signing
    def test_the_signature_stops_it(self, folder, keys):
        rewritten(folder, warnings=["All is well."])
        named(verify(folder), "model.sig", "does not hold")
        (folder / "model.sig").unlink()
        named(verify(folder), "model.sig: is missing, although audit.json names one")
        rewritten(folder, signature=None)
        assert verify(folder).ok  # hence keys
        named(verify(folder, key=keys[1]), "model.sig: is missing")

    @needs_signing
    def test_a_signature_by_somebody_else(self, folder, keys, tmp_path):
        private, public = audited.write_keys(tmp_path)
        signature = signing.signature_facts(audited.SignSpec(key=private))
        rewritten(folder, signature=signature)
        signing.sign(folder, audited.SignSpec(key=private))
        assert verify(folder, key=public).ok
        named(verify(folder, key=keys[1]), "model.sig: was made with another key")

    @needs_signing
    def test_a_signature_that_the_record_does_not_name(self, unsigned, keys):
        signing.sign(unsigned, audited.SignSpec(key=keys[0]))
        named(verify(unsigned), "model.sig: was added")
        assert verify(unsigned, key=keys[1]).ok


class TestWithoutSigning:
    def test_an_unsigned_run_says_so(self, unsigned):
        found = verify(unsigned)
        assert found.ok and any("not signed" in line for line in found.unchecked)

    @needs_signing
    def test_a_key_demands_a_signature(self, unsigned, keys):
        named(verify(unsigned, key=keys[1]), "model.sig: is missing")

    def test_a_folder_in_the_place_of_a_signature(self, unsigned):
        (unsigned / "model.sig").mkdir()
        write_text(unsigned / "model.sig" / "hidden", "x")
        named(verify(unsigned), "model.sig: is no plain file")

    def test_without_the_package_the_rest_is_still_checked(self, folder, monkeypatch):
        if not SIGNS:
            pytest.skip("the extra `sign` is not installed")
        monkeypatch.setitem(__import__("sys").modules, "model_signing.verifying", None)
        found = verify(folder)
        assert found.ok and any("amnesty[sign]" in line for line in found.unchecked)


class TestBadInput:
    def test_folders_that_are_none(self, tmp_path):
        for path in (tmp_path, tmp_path / "none"):
            with pytest.raises(AuditError):
                verify(path)
        write_text(tmp_path / "file", "")
        with pytest.raises(AuditError, match="is no folder"):
            verify(tmp_path / "file")

    def test_half_an_identity(self, made):
        with pytest.raises(SigningError, match="go together"):
            verify(made, identity="me@example.org")

    @needs_signing
    def test_keys_that_are_none(self, made, keys, tmp_path):
        for path in (keys[0], tmp_path / "none", tmp_path):
            with pytest.raises(SigningError):
                verify(made, key=path)
        with pytest.raises(SigningError, match="not both"):
            verify(made, key=keys[1], identity="me", issuer="https://example.org")


class TestTheData:
    def scores(self, folder):
        return dict(read_audit(folder)["scores"]["methods"]["munba"])

    def test_equal_scores_hold(self, unsigned):
        found = verify(
            unsigned, data=True, reevaluate=self.scores, datasets=lambda _: {"training": audited.training()}
        )
        assert found.ok and not any("data" in line for line in found.unchecked)
        assert any("20 were forgotten; found 20 in training" in line for line in found.checked)

    def test_forgotten_examples_that_are_gone_are_not_found(self, unsigned):
        found = verify(unsigned, reevaluate=self.scores, datasets=lambda _: {"holdout": audited.unseen()})
        assert found.ok and any("found 0 in holdout" in line for line in found.checked)

    def test_a_score_that_differs_is_named(self, unsigned):
        recorded = self.scores(unsigned)
        moved = recorded | {"forget_accuracy": recorded["forget_accuracy"] + 0.05, "seconds": 1e9}
        (line,) = verify(unsigned, reevaluate=lambda _: moved).problems
        assert line.startswith("scores.json: `forget_accuracy` is recorded as")

    def test_another_machine_is_allowed_more(self, unsigned):
        recorded = self.scores(unsigned)
        moved = recorded | {"forget_accuracy": recorded["forget_accuracy"] + 0.005}
        assert not verify(unsigned, reevaluate=lambda _: moved).ok
        versions = read_audit(unsigned)["versions"] | {"torch": "1.0"}
        rewritten(unsigned, versions=versions)
        assert verify(unsigned, reevaluate=lambda _: moved).ok

    def test_no_common_score_is_no_success(self, unsigned):
        assert not verify(unsigned, reevaluate=lambda _: {"other": 1.0}).ok

    def test_data_that_is_not_at_hand(self, unsigned):
        def lost(folder):
            raise DataError("train.parquet cannot be read")

        found = verify(unsigned, reevaluate=lost, datasets=lost)
        assert found.ok and sum("train.parquet" in line for line in found.unchecked) == 2
        named(verify(unsigned, data=True, reevaluate=lost), "train.parquet cannot be read")
        named(verify(unsigned, data=True), "the data was not given")

    def test_nothing_is_loaded_where_something_was_changed(self, unsigned):
        def never(folder):
            raise AssertionError("loaded")

        flipped(unsigned / "request.yaml", 0)
        for data in (None, True):
            found = verify(unsigned, data=data, reevaluate=never, datasets=never)
            assert any("nothing is loaded" in line for line in found.unchecked)

    def test_the_data_can_be_left_alone(self, unsigned):
        def never(folder):
            raise AssertionError("loaded")

        assert verify(unsigned, data=False, reevaluate=never, datasets=never).ok
