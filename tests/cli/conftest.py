"""Fixtures of the commands: results of networks, as the reports' tests make them."""

from tests.reports.conftest import make_results

__all__ = ["make_results"]
