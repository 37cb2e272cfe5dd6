"""The report of a trace: one HTML file that opens without a network and has every number in it."""

from araio.lens.report.document import report_document
from araio.lens.report.write import MOST_BYTES, read_report, report_html, write_report

__all__ = ["MOST_BYTES", "read_report", "report_document", "report_html", "write_report"]
