"""Hugging Face transformers' own classes on a checkpoint of ours: the oracle of the tests beside."""

import json
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from araio.config import ModelConfig
from araio.formats.checkpoint import Checkpoint
from araio.formats.layout import main_tensors
from araio.formats.write import write_checkpoint
from araio.kernels.widen import widen

TOLERANCE = {"rtol": 0.0, "atol": 1e-4}


def load_oracle(folder: Path, config: ModelConfig) -> PreTrainedModel:
    """Their model with the weights of a folder, in float32."""
    oracle = folder / "oracle"
    document = config.to_dict()
    document.pop("quantization_config", None)
    with Checkpoint.open(folder) as checkpoint:
        tensors = ((name, widen(checkpoint.read_weight(name))) for name in dict(main_tensors(config)))
        write_checkpoint(oracle, tensors)
    (oracle / "config.json").write_text(json.dumps(document))
    model = AutoModelForCausalLM.from_pretrained(oracle, dtype=torch.float32, attn_implementation="eager")
    return model.eval()


def their_logits(model: PreTrainedModel, ids: np.ndarray) -> np.ndarray:
    """After every token of a sequence: (T, W)."""
    with torch.no_grad():
        return model(torch.from_numpy(ids)[None]).logits[0].numpy()
