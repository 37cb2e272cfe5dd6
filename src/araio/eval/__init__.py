"""Quality by task, measured: accuracy with confidence intervals, and the length of the reasoning."""

from araio.eval.accuracy import Graded, Report, Score, TaskResult, evaluate

__all__ = ["Graded", "Report", "Score", "TaskResult", "evaluate"]
