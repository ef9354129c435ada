"""Reports: from the files of a run or study to a page that anyone can read, and to a table in the terminal.

Knows files only: nothing of models, methods or data sets. The page needs the extra `report`.
"""

from amnesty.reports.kinds import kind_of, show, write_page_of
from amnesty.reports.page import check_extra, write_report
from amnesty.reports.read import read_scenarios
from amnesty.reports.request_page import write_request_report
from amnesty.reports.request_terminal import show_plan, show_request
from amnesty.reports.scenario import Scenario
from amnesty.reports.tables import scores_table

__all__ = [
    "Scenario",
    "check_extra",
    "kind_of",
    "read_scenarios",
    "scores_table",
    "show",
    "show_plan",
    "show_request",
    "write_page_of",
    "write_report",
    "write_request_report",
]
