"""The report of a trace: one HTML file that opens without a network and has every number in it."""

from araio.lens.report.packing import pack, unpack
from araio.lens.report.write import read_report, report_html, write_report

__all__ = ["pack", "read_report", "report_html", "unpack", "write_report"]
