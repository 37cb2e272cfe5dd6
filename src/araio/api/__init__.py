"""`araio.load` and `Model`: a checkpoint ready to be asked, from Python. Read `model.py` first."""

from araio.api.loading import load
from araio.api.model import Messages, Model

__all__ = ["Messages", "Model", "load"]
