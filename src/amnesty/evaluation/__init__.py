"""Measures of forgetting and of what was kept."""

from amnesty.evaluation.answers import Answers, ask
from amnesty.evaluation.clip_score import ClipScorer
from amnesty.evaluation.curves import Roc, auc, roc, threshold_scan
from amnesty.evaluation.drawn import Drawn, draw_images, read_drawn
from amnesty.evaluation.evaluator import ALSO, Also, Evaluator, evaluate
from amnesty.evaluation.features import FEATURES, margins
from amnesty.evaluation.findings import Finding
from amnesty.evaluation.gaps import GAP_PARTS, PAPER_PARTS, average_gap
from amnesty.evaluation.generation import GenerationEvaluator
from amnesty.evaluation.intervals import Interval
from amnesty.evaluation.judging import Judge
from amnesty.evaluation.measure import Measure
from amnesty.evaluation.measures import MEASURES, beyond_answers, criterion, is_own
from amnesty.evaluation.membership import MembershipTest, membership_test, membership_tests, strongest
from amnesty.evaluation.nudity import NudeNet
from amnesty.evaluation.numbers import rescored
from amnesty.evaluation.ranking import Ranking, rank
from amnesty.evaluation.scores import Scores
from amnesty.evaluation.selftest import Checked, self_test
from amnesty.evaluation.statistics import compare, equivalent, summarise
from amnesty.evaluation.storing import check_parquet, read_answers, write_answers
from amnesty.evaluation.summary import OverSeeds, over_seeds
from amnesty.evaluation.threshold_attack import Advantage, matched, membership_advantage
from amnesty.evaluation.zero_shot import ZeroShotMeasures, zero_shot_facts

__all__ = [
    "ALSO",
    "FEATURES",
    "GAP_PARTS",
    "MEASURES",
    "PAPER_PARTS",
    "Advantage",
    "Also",
    "Answers",
    "Checked",
    "ClipScorer",
    "Drawn",
    "Evaluator",
    "Finding",
    "GenerationEvaluator",
    "Interval",
    "Judge",
    "Measure",
    "MembershipTest",
    "NudeNet",
    "OverSeeds",
    "Ranking",
    "Roc",
    "Scores",
    "ZeroShotMeasures",
    "ask",
    "auc",
    "average_gap",
    "beyond_answers",
    "check_parquet",
    "compare",
    "criterion",
    "draw_images",
    "equivalent",
    "evaluate",
    "is_own",
    "margins",
    "matched",
    "membership_advantage",
    "membership_test",
    "membership_tests",
    "over_seeds",
    "rank",
    "read_answers",
    "read_drawn",
    "rescored",
    "roc",
    "self_test",
    "strongest",
    "summarise",
    "threshold_scan",
    "write_answers",
    "zero_shot_facts",
]
