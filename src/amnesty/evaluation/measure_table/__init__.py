"""What every measure means, what it needs, and what it cannot see."""

from __future__ import annotations

from amnesty.evaluation.measure import Measure
from amnesty.evaluation.measure_table.accuracy import ACCURACIES
from amnesty.evaluation.measure_table.drawing import DRAWING
from amnesty.evaluation.measure_table.membership import MEMBERSHIP
from amnesty.evaluation.measure_table.published import PUBLISHED
from amnesty.evaluation.measure_table.reference import REFERENCE
from amnesty.evaluation.measure_table.trials import TRIALS
from amnesty.evaluation.measure_table.zero_shot import ZERO_SHOT

TABLE: tuple[Measure, ...] = (*ACCURACIES, *MEMBERSHIP, *PUBLISHED, *TRIALS, *ZERO_SHOT, *DRAWING, *REFERENCE)
"""All measures, in the order in which tables show them."""
