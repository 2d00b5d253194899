"""The study report: the ledger of claims, the paper's figures again, and what it left open."""

from reports.study.writing import write_report

__all__ = ["write_report"]
