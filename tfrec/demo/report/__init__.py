"""The demo's report for people: a page with charts, the same figures as JSON, and the last screen of `tfrec demo`."""
from tfrec.demo.report.page import write_report
from tfrec.demo.report.screen import render_screen

__all__ = ["render_screen", "write_report"]
