"""What a model does, measured: accuracy by task, the distance to another model, speed."""

from araio.eval.accuracy import Graded, Report, Score, TaskResult, evaluate

__all__ = ["Graded", "Report", "Score", "TaskResult", "evaluate"]
