import random
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, on_main_process

import amnesty
from amnesty.errors import UnknownNameError
from amnesty.requests.tracking import TrackerError, check_trackers, folder_of_trackers, tracking, unmoved
from tests.tiny import task

METHOD = amnesty.methods.MUNBa(epochs=2, batch_size=16)


class Memory(GeneralTracker):
    """Keeps everything; fails at the steps, or in the calls, that it is told to; draws random numbers throughout."""

    name = "memory"
    requires_logging_directory = False

    def __init__(self, fails=()):
        super().__init__()
        self.fails = fails
        self.config, self.logged, self.finished = None, [], 0

    @property
    def tracker(self):
        return self.logged

    def _go(self, where):
        torch.manual_seed(1)
        np.random.seed(1)
        random.seed(1)
        if where in self.fails:
            raise ConnectionError(f"no\nnetwork in {where}")

    @on_main_process
    def start(self):
        self._go("start")

    @on_main_process
    def store_init_configuration(self, values):
        self._go("config")
        self.config = values

    @on_main_process
    def log(self, values, step=None, **kwargs):
        self._go(step)
        self.logged.append((step, values))

    @on_main_process
    def finish(self):
        self._go("finish")
        self.finished += 1


def run(watch):
    return amnesty.unlearn(task(), METHOD, seed=1, progress=watch)


def bits(outcome):
    return {name: tensor.clone() for name, tensor in outcome.model.state_dict().items()}


def test_a_tracker_is_told_every_step_and_the_scores(tmp_path):
    tracker = Memory()
    config = {"method": {"name": "munba", "epochs": 2, "lr": None}, "tuned": False}
    with tracking([tracker], tmp_path / "t", "user-7", config) as watch:
        outcome = run(watch)
        watch.scores({"original": {"forget_accuracy": 1.0}, "munba": {"forget_accuracy": 0.5}})
        assert tracker.finished == 0
    assert tracker.config == {"method.name": "munba", "method.epochs": 2, "tuned": False}
    *steps, (last, scores) = tracker.logged
    assert [step for step, _ in steps] == [record["step"] for record in outcome.history]
    assert [values["forget_loss"] for _, values in steps] == [record["forget_loss"] for record in outcome.history]
    assert all(isinstance(value, int | float) for _, values in steps for value in values.values())
    assert (last, scores) == (steps[-1][0], {"original/forget_accuracy": 1.0, "munba/forget_accuracy": 0.5})
    assert tracker.finished == 1
    assert watch.warnings == []


def test_a_run_has_the_same_bits_with_a_tracker_that_seeds(tmp_path):
    alone = run(False)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    with tracking([Memory()], tmp_path, "a", {}) as watch:
        seen = run(watch)
    mine, its = bits(alone), bits(seen)
    assert all(torch.equal(mine[name], its[name]) for name in mine)
    assert alone.history == seen.history
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])
    assert before[2] == random.getstate()


def test_a_tracker_that_fails_is_left_out_and_named_once(tmp_path):
    failing, other, told = Memory(fails=(3, 4)), Memory(), []
    with tracking([failing, other], tmp_path, "a", {}, tell=told.append) as watch:
        outcome = run(watch)
    assert len(outcome.history) > 4
    assert [step for step, _ in failing.logged] == [1, 2]
    assert failing.finished == other.finished == 1
    assert len(other.logged) == len(outcome.history)
    assert watch.warnings == ["The tracker memory failed at step 3: ConnectionError: no network in 3"] == told


def test_a_tracker_that_does_not_finish_is_named(tmp_path):
    with tracking([Memory(fails=("finish",))], tmp_path, "a", {}) as watch:
        watch({"step": 7, "forget_loss": 1.0}, 9)
    assert watch.warnings == ["The tracker memory did not finish at step 7: ConnectionError: no network in finish"]


@pytest.mark.parametrize("where", ["start", "config"])
def test_a_tracker_that_does_not_start_is_refused_before_the_run(tmp_path, where):
    first = Memory()
    with (
        pytest.raises(TrackerError, match=rf"'memory' did not start: ConnectionError: no network in {where}"),
        tracking([first, Memory(fails=(where,))], tmp_path, "a", {}),
    ):
        pytest.fail("the run began")
    assert first.finished == 1


def test_trackers_are_closed_when_the_run_fails(tmp_path):
    def stop(record, total):
        watch(record, total)
        raise ZeroDivisionError

    tracker = Memory()
    with pytest.raises(ZeroDivisionError), tracking([tracker], tmp_path, "a", {}) as watch:
        run(stop)
    assert [step for step, _ in tracker.logged] == [1]
    assert tracker.finished == 1


def test_a_tracker_of_every_process_may_use_the_log_of_accelerate(tmp_path, monkeypatch):
    from accelerate.logging import get_logger

    class Everywhere(Memory):
        main_process_only = False

        def start(self):
            get_logger("any").debug("refused where nobody has set up accelerate")

    monkeypatch.setattr("accelerate.state.PartialState._shared_state", {})
    with tracking([Everywhere()], tmp_path, "a", {}) as watch:
        watch({"step": 1}, 1)
    assert watch.warnings == []


def test_an_interrupt_is_not_swallowed(tmp_path):
    class Interrupted(Memory):
        def log(self, values, step=None, **kwargs):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), tracking([Interrupted()], tmp_path, "a", {}) as watch:
        watch({"step": 1}, 2)


def test_only_finite_numbers_are_logged(tmp_path):
    tracker = Memory()
    record = {"step": 5, "a": float("nan"), "b": None, "c": "text", "d": [1], "stationary": True, "e": 2}
    with tracking([tracker], tmp_path, "a", {}) as watch:
        watch(record, 9)
    assert tracker.logged == [(5, {"stationary": 1, "e": 2})]


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "amnesty"))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_goes_on_where_an_interrupted_run_was(tmp_path):
    pytest.importorskip("tensorboard")
    folder = folder_of_trackers(tmp_path / "result")
    lines = [{"step": step, "forget_loss": 1.0 / step} for step in range(1, 7)]
    for part in (lines[:4], lines[3:]):  # the fourth step is made again
        with tracking(["tensorboard"], folder, "user-7", {"epochs": 2, "folder": tmp_path}) as watch:
            for line in part:
                watch(line, 6)
            if part[-1] is lines[-1]:
                watch.scores({"munba": {"forget_accuracy": 0.25}})
    found = scalars(folder)
    assert sorted({step for step, _ in found["forget_loss"]}) == [1, 2, 3, 4, 5, 6]
    assert dict(found["forget_loss"])[6] == pytest.approx(1 / 6)
    assert found["munba/forget_accuracy"] == [(6, 0.25)]
    assert not (tmp_path / "result").exists()
    size = {path: path.stat().st_size for path in folder.rglob("*")}
    assert size == {path: path.stat().st_size for path in folder.rglob("*")}


def test_unknown_trackers_are_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match="Unknown tracker 'tensorbord'. Did you mean 'tensorboard'"):
        check_trackers(["tensorbord"])
    with pytest.raises(UnknownNameError, match="Unknown tracker 'all'"):
        check_trackers(["all"])


def test_a_missing_package_is_named(monkeypatch):
    find = amnesty.requests.tracking.importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name == "wandb" else find(name, *rest)
    )
    with pytest.raises(TrackerError, match="'wandb' needs the package `wandb`, which is not installed"):
        check_trackers(["wandb"])


def test_a_tracker_that_was_registered_by_name_is_known(tmp_path, monkeypatch):
    class Kept(Memory):
        name = "kept"
        made = []  # noqa: RUF012

        def __init__(self, project):
            super().__init__()
            self.made.append((project, self))

    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "kept", Kept)
    with tracking(["kept", "kept"], tmp_path, "a", {}) as watch:
        watch({"step": 1, "a": 1}, 1)
    assert [(project, tracker.logged) for project, tracker in Kept.made] == [("amnesty", [(1, {"a": 1})])]


@pytest.mark.parametrize("told", [True, False])
def test_mlflow_writes_beside_the_result_unless_told_where(tmp_path, monkeypatch, told):
    class Started(Memory):
        def __init__(self, project, run_name):
            super().__init__()
            assert (project, run_name) == ("amnesty", "user-7")

    places = []
    stub = SimpleNamespace(is_tracking_uri_set=lambda: told, set_tracking_uri=places.append)
    monkeypatch.setitem(sys.modules, "mlflow", stub)
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "mlflow", Started)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: stub)
    with tracking(["mlflow"], tmp_path, "user-7", {}):
        assert places == ([] if told else [f"sqlite:///{tmp_path / 'mlflow.db'}"])


def test_without_trackers_nothing_is_loaded_or_written(tmp_path):
    script = (
        "import sys; from pathlib import Path; from amnesty.requests.tracking import tracking\n"
        "with tracking([], Path(sys.argv[1]) / 't', 'a', {}) as watch: watch({'step': 1}, 1); watch.scores({})\n"
        "assert 'accelerate' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    assert list(tmp_path.iterdir()) == []


def test_generators_are_put_back_after_an_error():
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[2]

    def draw():
        torch.rand(3)
        random.random()
        np.random.rand(7)
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"), unmoved():
        draw()
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1], before[2]) == (random.getstate(), np.random.get_state()[2])
