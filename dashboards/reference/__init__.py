"""The rows of other reports: the seed report as data, its conclusions, and rows beside ours."""

from dashboards.reference.beside import beside
from dashboards.reference.rows import Report, Row, read_row, seed_report

__all__ = ["Report", "Row", "beside", "read_row", "seed_report"]
