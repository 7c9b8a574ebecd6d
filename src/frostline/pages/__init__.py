"""Pages to look at: what a plan will do to a model, and what a run has done; each one file that needs no network."""

from frostline.pages.plan_page import write_plan_page
from frostline.pages.report_page import Story, write_report_page

__all__ = ["Story", "write_plan_page", "write_report_page"]
