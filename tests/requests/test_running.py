import errno
import shutil

import pytest
import torch

from amnesty.errors import DataError, InterruptedRunError, InvalidInputError, ReportError
from amnesty.reports.kinds import write_page_of
from amnesty.requests.chain import ChainError
from amnesty.requests.checking import read_request
from amnesty.requests.digests import file_hash, saved_tensors_hash
from amnesty.requests.facts import plan
from amnesty.requests.preparing import prepare
from amnesty.requests.run_folder import RunFolderError
from amnesty.requests.verifying import verify
from amnesty.studies.evaluating import evaluate_run, find_runs
from amnesty.training import progress_bar
from amnesty.weights import save_weights
from tests.requests import audited
from tests.requests.whole_runs import HERE, QUICK, asked, names, read, result, run, stop_after

FILES = {
    "request.yaml",
    "model.safetensors",
    "history.jsonl",
    "scores.json",
    "answers.parquet",
    "forgotten.json",
    "run.json",
    "report.html",
    "audit.json",
}
CONV = {"import": "tests.requests.whole_runs:normed", "weights": "conv.safetensors"}
LONGER = {**QUICK, "at_least": 20}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("requests")


@pytest.fixture(scope="module")
def first(home):
    """A finished run; not to be changed."""
    run(asked(home, name="first"), home / "first")
    return home / "first"


@pytest.fixture(scope="module")
def third(home, first):
    """A run on a run on the first one."""
    for name, before, rows in (("second", "first", [20, 21, 22, 23]), ("third", "second", [30, 31, 32])):
        run(asked(home, name=name, model={"run": before}, data=None, forget={"indices": rows}), home / name)
    return home / "third"


@pytest.fixture
def copied(first, tmp_path):
    return audited.copied(first, tmp_path / "copy")


class TestTheFolder:
    def test_it_holds_the_result_and_nothing_else(self, first):
        assert names(first) == FILES

    def test_it_verifies_right_away(self, first):
        found = verify(first)
        assert found.ok and len(found.checked) > 8, found.text

    def test_scores_are_those_of_the_models(self, first):
        scores = read(first, "scores.json")["methods"]
        assert scores.keys() == {"original", "munba"}
        assert scores["original"]["forget_accuracy"] == 1.0 > scores["original"]["holdout_accuracy"] + 0.3

    def test_the_request_in_it_is_complete(self, first):
        again = read_request(first / "request.yaml", look=False)
        assert again.out == first and again.document["method"]["at_least"] == 8
        assert read(first, "audit.json")["method"]["settings"]["lr"] == 0.02

    def test_examples_stand_in_it_by_hash_only(self, first):
        assert len(read(first, "forgotten.json")["sets"]["forget"]) == 12
        assert read(first, "audit.json")["forget"]["count"] == 12

    @pytest.mark.parametrize("name", sorted(FILES - {"audit.json"}))
    def test_a_changed_byte_is_found_and_named(self, copied, name):
        size = (copied / name).stat().st_size
        for _ in audited.every_flip(copied / name, [0, size // 2, size - 1]):
            found = verify(copied)
            assert any(line.startswith(f"{name}: was changed") for line in found.problems), found.text
        assert verify(copied).ok

    def test_a_changed_record_is_found(self, copied):
        for _ in audited.every_flip(copied / "audit.json", [40, 400]):
            assert any(line.startswith("audit.json") for line in verify(copied).problems)


class TestOtherCommandsOnIt:
    def test_evaluating_leaves_every_byte(self, copied):
        before = {name: file_hash(copied / name) for name in FILES}
        for runs in find_runs([copied]).values():
            assert evaluate_run(runs[0]).keys() == {"original", "munba"}
        assert {name: file_hash(copied / name) for name in FILES} == before and names(copied) == FILES

    def test_other_numbers_are_not_written_into_an_audited_folder(self, copied):
        path = copied / "scores.json"
        text = path.read_text().replace('"retain_accuracy": 1.0', '"retain_accuracy": 0.5')
        path.write_text(text)
        (found,) = find_runs([copied]).values()
        with pytest.raises(DataError, match="retain_accuracy are not what scores.json holds"):
            evaluate_run(found[0])
        assert path.read_text() == text

    def test_further_measures_need_another_way(self, copied):
        (found,) = find_runs([copied]).values()
        with pytest.raises(InvalidInputError, match="is audited: its scores stay as they are"):
            evaluate_run(found[0], ["compat"])

    def test_the_page_comes_out_the_same(self, copied):
        before = (copied / "report.html").read_bytes()
        (copied / "report.html").unlink()
        assert write_page_of(copied).read_bytes() == before and verify(copied).ok

    def test_another_page_is_refused(self, copied):
        (copied / "report.html").write_text("<p>All is well</p>")
        with pytest.raises(ReportError, match="differ"):
            write_page_of(copied)


class TestTheOriginal:
    def test_its_files_may_be_read_only_and_stay_as_they_are(self, tmp_path):
        model = tmp_path / "model"
        model.mkdir()
        save_weights(model / "before.safetensors", audited.original())
        (model / "before.safetensors").chmod(0o444)
        model.chmod(0o555)
        before = [(model / "before.safetensors").stat(), model.stat(), file_hash(model / "before.safetensors")]
        request = asked(tmp_path, model={"import": f"{HERE}:network", "weights": "model/before.safetensors"})
        run(request, tmp_path / "out")
        after = [(model / "before.safetensors").stat(), model.stat(), file_hash(model / "before.safetensors")]
        model.chmod(0o755)
        assert before[2] == after[2] and names(model) == {"before.safetensors"}
        assert [one.st_mtime_ns for one in before[:2]] == [one.st_mtime_ns for one in after[:2]]

    def test_somebody_else_changing_it_meanwhile_is_told(self, tmp_path):
        path, changed = asked(tmp_path), []

        def change(record, total):
            if not changed:
                audited.flipped(tmp_path / "before.safetensors", 600)
            changed.append(record)

        warnings = run(path, tmp_path / "out", watch=change).facts["warnings"]
        assert any("before.safetensors of the original was changed by somebody" in line for line in warnings)


class TestGoingOn:
    @pytest.mark.parametrize("model", [None, CONV], ids=["plain", "batch norm and dropout"])
    def test_sittings_leave_no_trace_in_the_result(self, tmp_path, model):
        changed = {} if model is None else {"model": model}
        if model is not None:
            from amnesty import Recipe, train
            from tests.requests.whole_runs import normed

            trained = train(normed(), audited.training(), Recipe(epochs=60, batch_size=32, weight_decay=0.0))
            save_weights(tmp_path / "conv.safetensors", trained)
        path = asked(tmp_path, method=LONGER, **changed)
        whole = run(path, tmp_path / "whole")
        for steps in (5, 7):
            with pytest.raises(InterruptedRunError):
                run(path, tmp_path / "parts", resume=True, **stop_after(steps))
        parts = run(path, tmp_path / "parts", resume=True)
        assert result(tmp_path / "whole") == result(tmp_path / "parts")
        assert (whole.facts["sittings"], parts.facts["sittings"]) == (1, 3)
        assert read(tmp_path / "parts", "audit.json")["time"]["sittings"] == 3 and verify(tmp_path / "parts").ok

    def test_the_bar_goes_on_where_it_was(self, tmp_path):
        path, told = asked(tmp_path, method=LONGER), []
        with pytest.raises(InterruptedRunError) as stopped:
            run(path, tmp_path / "out", **stop_after(6))
        assert stopped.value.step == 6
        run(path, tmp_path / "out", resume=True, watch=lambda record, total: told.append((record["step"], total)))
        assert told[0][0] == 7 and len({total for _, total in told[:5]}) == 1

    def test_a_bar_can_begin_in_the_middle(self):
        with progress_bar("munba") as watch:
            watch({"step": 700}, 1000)

    def test_a_stop_while_scores_are_taken_is_obeyed(self, tmp_path):
        path, words = asked(tmp_path), []
        with pytest.raises(InterruptedRunError, match="the last one"):
            run(path, tmp_path / "out", tell=words.append, stop=lambda: "Taking the scores" in words)
        assert names(tmp_path / "out") == {"request.yaml", "checkpoint"}
        run(path, tmp_path / "out", resume=True)
        assert names(tmp_path / "out") == FILES

    def test_it_begins_where_there_is_nothing_to_go_on_from(self, tmp_path):
        assert run(asked(tmp_path), tmp_path / "out", resume=True).facts["sittings"] == 1

    def test_not_without_being_asked_and_not_twice(self, tmp_path, first):
        path = asked(tmp_path)
        with pytest.raises(InterruptedRunError):
            run(path, tmp_path / "out", **stop_after(4))
        with pytest.raises(RunFolderError, match="--resume"):
            run(path, tmp_path / "out")
        with pytest.raises(RunFolderError, match="finished run"):
            run(asked(first.parent, name="first"), first, resume=True)

    @pytest.mark.parametrize("name", ["model.safetensors", "answers.parquet", "run.json", "audit.json"])
    def test_a_full_disk_leaves_no_half_file_and_the_rest_can_be_saved(self, tmp_path, monkeypatch, name):
        from amnesty import files

        path, out, whole = asked(tmp_path), tmp_path / "out", files.whole
        left = []

        def full(target):
            if target.name == name:
                left.append(names(target.parent))
                raise OSError(errno.ENOSPC, "No space left on device", str(target))
            return whole(target)

        for module in ("amnesty.files", "amnesty.weights.files", "amnesty.evaluation.storing"):
            monkeypatch.setattr(f"{module}.whole", full)
        with pytest.raises(OSError, match="No space left on device"):
            run(path, out)
        assert not any(one.startswith(".") and one != ".lock" for one in names(out))
        assert name not in names(out) and left
        monkeypatch.undo()
        run(path, out, resume=True)
        assert names(out) == FILES and verify(out).ok

    def test_a_failure_before_the_first_step_leaves_no_folder(self, tmp_path, monkeypatch):
        monkeypatch.setattr("amnesty.requests.running.unlearn", lambda *a, **k: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(asked(tmp_path), tmp_path / "out")
        assert not (tmp_path / "out").exists()


class TestOneAfterTheOther:
    def test_the_chain_is_kept(self, third, first, home):
        audit = read(third, "audit.json")
        assert [link["name"] for link in audit["chain"]] == ["first", "second"]
        assert audit["model"]["before"]["tensors"] == saved_tensors_hash([home / "second" / "model.safetensors"])
        assert [link["audit_sha256"] for link in audit["chain"]] == [
            file_hash(home / name / "audit.json") for name in ("first", "second")
        ]

    def test_what_was_forgotten_earlier_is_not_taught_again(self, third):
        audit = read(third, "audit.json")
        assert audit["data"]["parts"]["retain"]["count"] == 90 - 12 - 4 - 3
        assert any("16 examples of the retain set were taken out" in line for line in audit["warnings"])
        assert len(read(third, "forgotten_before.json")["runs"]) == 2

    def test_it_is_asked_again_and_the_answer_recorded(self, third):
        audit = read(third, "audit.json")
        assert [one["name"] for one in audit["rechecked"]] == ["first", "second"]
        assert [one["found"] for one in audit["rechecked"]] == [12, 4]
        assert [one["name"] for one in read(third, "run.json")["rechecked"]] == ["first", "second"]

    def test_it_verifies_with_and_without_the_earlier_folders(self, third, home, tmp_path):
        found = verify(third)
        assert found.ok and any("the request before, 'second'" in line for line in found.checked), found.text
        alone = audited.copied(third, tmp_path / "alone")
        text = (alone / "request.yaml").read_text()
        assert str(home / "second") in text  # by its absolute path: it is found from anywhere
        for name in ("second", "first"):
            (home / name).rename(home / f"{name}-away")
        try:
            found = verify(alone)
        finally:
            for name in ("second", "first"):
                (home / f"{name}-away").rename(home / name)
        assert found.ok and any("not at hand" in line for line in found.unchecked), found.text

    def test_nothing_is_built_on_a_folder_that_was_changed(self, copied):
        audited.flipped(copied / "model.safetensors", 1000)
        request = asked(copied.parent, name="next", model={"run": "copy"}, data=None, forget={"indices": [50, 51]})
        with pytest.raises(ChainError, match=r"model\.safetensors: was changed"):
            run(request, copied.parent / "next-out")
        assert not (copied.parent / "next-out").exists()

    def test_earlier_examples_among_the_unseen_ones_go_too(self, first, home, tmp_path):
        data = {"training": {"import": f"{HERE}:training"}, "holdout": {"rows": {"indices": list(range(6, 60))}}}
        request = asked(home, name="mixed", model={"run": "first"}, data=data, forget={"indices": [70, 71]})
        found = prepare(read_request(request, out=tmp_path / "out"))
        gone = [line for line in found.warnings if "earlier requests" in line]
        assert sum(int(line.split()[0]) for line in gone) == 12  # 6 in retain, 6 among unseen rows
        assert not found.earlier.hashes & {h for part in found.parts.rest for h in found.parts.hashes[part]}


class TestKinds:
    def test_a_signed_run_is_checked_with_the_public_key(self, tmp_path):
        pytest.importorskip("model_signing")
        private, public = audited.write_keys(tmp_path)
        _, other = audited.write_keys(tmp_path, "other")
        run(asked(tmp_path, sign={"key": str(private)}), tmp_path / "out")
        assert names(tmp_path / "out") == FILES | {"model.sig"}
        assert verify(tmp_path / "out", key=public).ok and verify(tmp_path / "out").ok
        assert not verify(tmp_path / "out", key=other).ok
        (tmp_path / "out" / "notes.txt").write_text("added")
        assert not verify(tmp_path / "out", key=public).ok

    def test_a_key_that_is_none_is_refused_before_anything_is_loaded(self, tmp_path):
        pytest.importorskip("model_signing")
        (tmp_path / "key.pem").write_text("no key")
        with pytest.raises(InvalidInputError, match="no private key"):
            run(asked(tmp_path, sign={"key": "key.pem"}), tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_named_forget_sets_stay_apart(self, tmp_path):
        sets = {"ann": {"indices": [0, 1, 2, 3]}, "bob": {"indices": [7, 8, 9]}}
        found = run(asked(tmp_path, forget={"sets": sets}), tmp_path / "out")
        assert read(tmp_path / "out", "forgotten.json")["sets"].keys() == {"ann", "bob"}
        audit = read(tmp_path / "out", "audit.json")
        assert {name: one["count"] for name, one in audit["forget"]["sets"].items()} == {"ann": 4, "bob": 3}
        assert audit["forget"]["sets"]["bob"]["selector"] == {"indices": [7, 8, 9]}
        assert found.facts["asked"] == "Forget 7 of 90 training examples in 2 sets."
        assert verify(tmp_path / "out").ok

    @pytest.mark.parametrize(
        "method",
        [
            {"name": "finetune", "epochs": 1, "lr": 0.01},
            "ssd",
            {"name": "retrain", "recipe": {"epochs": 2, "batch_size": 32}},
        ],
        ids=["finetune", "ssd", "retrain"],
    )
    def test_other_methods(self, tmp_path, method):
        found = run(asked(tmp_path, method=method), tmp_path / "out")
        name = method if isinstance(method, str) else method["name"]
        assert found.scores.keys() == {"original", name} and verify(tmp_path / "out").ok
        assert names(tmp_path / "out") == FILES

    def test_half_precision_and_float32_weights(self, tmp_path):
        import safetensors.torch

        run(asked(tmp_path, precision="bfloat16"), tmp_path / "out")
        saved = safetensors.torch.load_file(tmp_path / "out" / "model.safetensors")
        assert {tensor.dtype for tensor in saved.values()} == {torch.float32}
        assert read(tmp_path / "out", "audit.json")["precision"] == "bfloat16" and verify(tmp_path / "out").ok

    def test_a_retrained_model_to_compare_with(self, tmp_path):
        from amnesty import train

        rest = torch.utils.data.Subset(audited.training(), range(12, 90))
        save_weights(tmp_path / "retrained.safetensors", train(audited.network(), rest, audited.RECIPE))
        found = run(asked(tmp_path, reference="retrained.safetensors"), tmp_path / "out")
        assert found.scores.keys() == {"original", "munba", "reference"} and "average_gap" in found.scores["munba"]
        assert read(tmp_path / "out", "scores.json")["reference"] == "reference" and verify(tmp_path / "out").ok
        for runs in find_runs([tmp_path / "out"]).values():
            evaluate_run(runs[0])

    def test_without_unseen_data_it_says_what_it_cannot_say(self, tmp_path):
        found = run(asked(tmp_path, data={"training": {"import": f"{HERE}:training"}}), tmp_path / "out")
        assert any("no unseen examples" in line for line in found.facts["warnings"])
        assert any("teaches random labels" in line for line in found.facts["warnings"])
        assert verify(tmp_path / "out").ok

    def test_trackers_write_beside_the_result(self, tmp_path):
        pytest.importorskip("tensorboard")
        run(asked(tmp_path, trackers=["tensorboard"]), tmp_path / "out")
        assert names(tmp_path / "out") == FILES and list((tmp_path / "out-trackers").rglob("events*"))
        assert not any("trackers" in name for name in read(tmp_path / "out", "audit.json")["files"])


def test_the_plan_is_known_before_anything_is_written(tmp_path):
    told = plan(prepare(read_request(asked(tmp_path), out=tmp_path / "out")))
    assert told["counts"] == {"forget": 12, "retain": 78, "holdout": 45, "validation": 45}
    assert told["asked"] == "Forget 12 of 90 training examples." and told["tuned"] and not told["self_tuned"]
    assert told["settings"]["lr"] == 0.02 and not (tmp_path / "out").exists()


def test_a_finished_folder_can_be_copied_and_moved(first, tmp_path):
    shutil.copytree(first, tmp_path / "elsewhere")
    assert verify(tmp_path / "elsewhere").ok
