import io

from rich.console import Console

from amnesty.evaluation import over_seeds
from amnesty.reports.evaluating import runs, scores, self_test
from amnesty.reports.seeds import seeds_table
from tests.reports import folders


def shown(show, *arguments, width=200):
    console = Console(file=io.StringIO(), width=width)
    show(console, *arguments)
    return console.file.getvalue()


def seeds(count=3):
    return [folders.scores(seed=seed)["methods"] for seed in range(count)]


def test_mean_and_deviation_are_in_percent_and_time_in_seconds():
    found = over_seeds(seeds(), floor=None)
    text = shown(lambda console: console.print(seeds_table(found)))
    assert "99.73 ± 0.00" in text and "2.50 ± 0.00" in text and "over 3 seeds" in text


def test_one_seed_has_no_deviation():
    text = shown(lambda console: console.print(seeds_table(over_seeds(seeds(1), floor=None))))
    assert "±" not in text.replace("mean ± deviation", "") and "1 seed;" in text


def test_findings_are_those_of_the_numbers_beside_the_original():
    document = folders.scores()
    for key, value, low, high in (
        ("original", 0.9, 0.85, 0.95),
        ("munba", 0.5, 0.47, 0.53),
        ("finetune", 0.8, 0.7, 0.9),
    ):
        document["methods"][key] |= {"membership_auc": value, "membership_auc_low": low, "membership_auc_high": high}
    text = shown(scores, document)
    lines = {line.split()[0]: line for line in text.splitlines() if "membership AUC" in line}
    assert "not detected" in lines["MUNBa"] and "remembered" in lines["Fine-tuning"]


def test_further_measures_are_listed_by_their_titles():
    document = folders.scores()
    document["methods"]["munba"] |= {"js_to_reference": 0.125, "relearning_ratio": 0.9, "relearning_ratio_low": 0.7}
    document["methods"]["munba"]["membership_auc_against"] = 48
    text = shown(scores, document)
    assert "Divergence from the retrained model" in text and "0.125" in text and "Relearning ratio" in text
    assert "relearning_ratio_low" not in text and "_against" not in text


def test_several_runs_are_summarised_and_one_is_shown_in_full():
    documents = [folders.scores(seed=seed) | {"floor": None} for seed in (0, 1)]
    rows = [{name: _Own(values) for name, values in document["methods"].items()} for document in documents]
    assert "over 2 seeds" in shown(runs, "class", documents, rows, "average_gap", False)
    assert "Forget one class" in shown(runs, "class", documents[:1], rows[:1], "average_gap", False)


class _Own:
    def __init__(self, values):
        self.own = values


def test_the_table_of_papers_is_shown_where_its_columns_were_taken():
    document = folders.scores() | {"floor": None}
    for values in document["methods"].values():
        values |= {
            "unlearning_accuracy": 1 - values["forget_accuracy"],
            "svc_confidence_compat": 0.25,
            "tug_of_war": 1,
        }
    document["methods"]["munba"]["svc_confidence_compat"] = 0.29
    rows = [{name: _Own(values) for name, values in document["methods"].items()}]
    text = shown(runs, "class", [document], rows, "average_gap", False)
    assert "As papers print it" in text
    line = next(line for line in text.split("As papers print it")[1].splitlines() if line.strip().startswith("MUNBa"))
    # UA 99, RA 99.73, TA 95, MIA 29; AG = (1 + 0.27 + 1 + 4) / 4; 2.5 s
    assert line.split()[1:] == ["99.00", "99.73", "95.00", "29.00", "1.57", "0.04", "1.00"]
    del document["methods"]["finetune"]["svc_confidence_compat"]
    assert "As papers print it" not in shown(runs, "class", [document], rows, "average_gap", False)


def test_every_seed_is_shown_where_asked():
    documents = [folders.scores(seed=seed) | {"floor": None} for seed in (0, 1)]
    rows = [{name: _Own(values) for name, values in document["methods"].items()} for document in documents]
    text = shown(runs, "class", documents, rows, "average_gap", False, True)
    assert text.count("bold: nearest to it") == 2 and "over 2 seeds" in text


def test_the_self_test_says_which_measures_may_rank():
    from amnesty.evaluation.measures import MEASURES
    from amnesty.evaluation.selftest import MODELS, Checked

    def checked(key, resolution, fooled):
        return Checked(MEASURES[key], dict.fromkeys(MODELS, 0.5), 0.01, resolution, fooled)

    text = shown(
        self_test,
        [
            checked("average_gap", True, ()),
            checked("unlearning_accuracy", True, ("original", "destroyed")),
            checked("membership_auc", False, ()),
            checked("forget_accuracy", True, ()),
        ],
    )
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert "criterion" in lines["average_gap"] and "no resolution" in lines["membership_auc"]
    assert "original and destroyed" in lines["unlearning_accuracy"] and "refused" in lines["forget_accuracy"]


def test_several_seeds_say_which_way_a_method_misses_and_how_it_stands_against_the_best():
    documents = [folders.scores(seed=seed) | {"floor": None} for seed in range(3)]
    for seed, document in enumerate(documents):
        document["methods"]["finetune"]["average_gap"] += 0.001 * seed
    rows = [{name: _Own(values) for name, values in document["methods"].items()} for document in documents]
    text = shown(runs, "class", documents, rows, "average_gap", False)
    signed, against = text.split("Signed gaps")[1].split("Against MUNBa")
    lines = {line.split()[0]: line.split() for line in signed.splitlines() if line.strip()}
    # forget 0.9 - 0, retain 1 - 1, hold-out 0.96 - 0.96, AUC 0.56 - 0.5
    assert lines["Fine-tuning"][1:] == ["+90.00", "±0.00", "±0.00", "+6.00"]
    assert lines["MUNBa"][1:] == ["+1.00", "\N{MINUS SIGN}0.27", "\N{MINUS SIGN}1.00", "+1.00"]
    line = next(line for line in against.splitlines() if line.strip().startswith("Fine-tuning"))
    # 24 + 0.1 - 0.82; deviation 0.1, t = 4.303, n = 3; all of 3 signs alike: p = 2 / 8
    assert line.split()[1:] == ["+23.28", "[23.03,", "23.53]", "0.25"]


def test_without_a_retrained_model_there_is_nothing_to_miss():
    documents = [folders.scores(seed=seed) | {"floor": None, "reference": None} for seed in (0, 1)]
    for document in documents:
        for values in document["methods"].values():
            del values["average_gap"]
    rows = [{name: _Own(values) for name, values in document["methods"].items()} for document in documents]
    text = shown(runs, "class", documents, rows, "average_gap", False)
    assert "Signed gaps" not in text and "Against" not in text
    assert "`average_gap` compares with a retrained model, and there is none" in text


def test_names_titles_and_keys_are_no_markup():
    documents = [folders.scores(seed=seed) | {"floor": None} for seed in (0, 1)]
    for document in documents:
        document["scenario"]["title"] = "class[/b]\x1b[2J"
        for name in ("m[lr=0.1]", "m[/b]", "[red]"):
            document["methods"][name] = {**document["methods"]["munba"], "key[/b]": 1.0, "unlearning_accuracy": 0.9}
        for values in document["methods"].values():
            values |= {"unlearning_accuracy": 1.0, "svc_confidence_compat": 0.25}
    rows = [{name: _Own(values) for name, values in document["methods"].items()} for document in documents]
    text = shown(runs, "name[/b]", documents, rows, "average_gap", False, True, width=400)
    assert "\x1b" not in text and "class[/b]" in text and "key[/b]" in text
    for name in ("M[lr=0.1]", "M[/b]", "[red]"):
        assert text.count(name) >= 10, name


def test_a_narrow_terminal_cuts_neither_names_nor_numbers():
    text = shown(lambda console: console.print(seeds_table(over_seeds(seeds(), floor=None))), width=120)
    assert "Fine-tuning" in text and "Brand new method" in text and "\N{HORIZONTAL ELLIPSIS}" not in text
