"""One model in llama.cpp, timed on command: the process that `llama_cpp.LlamaCpp` starts and talks to.

It runs on the Python of llama.cpp's own environment, where `import llama_cpp` finds the binding and not the
file beside this one. The first line on stdin names a GGUF, `{"gguf": "FILE"}`, perhaps with `"mapped": true`;
each further line is a `Plan`, or tokens to play, and the threads to use. Every line is answered with one on
stdout. What C libraries print goes to stderr.

Settings are llama.cpp's defaults, than which none was found faster: weights repacked where it has kernels for
that, flash attention, the cache in float16.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp  # type: ignore[import-not-found]  # of another environment
import numpy as np
from numpy.typing import NDArray

SEED = 0
CHUNK = 128  # tokens of a long context that are computed; the rest of its cache are copies of these
CELLS = 256  # what llama.cpp reserves of the cache is a multiple of this
LOG_LEVEL_ERROR = 4  # of `enum ggml_log_level`; the binding does not name it
PLAY_ROOM = 1024  # tokens that can be played in a row
MEASURED, SCRATCH = 0, 1  # the two sequences of a context that is filled


class CommandError(Exception):
    """A command that cannot be carried out: the client is told, and the worker goes on."""


@dataclass(frozen=True)
class Plan:
    """What is to be run.

    kind       "prefill": all tokens at once, with the logits of the last;
               "decode": one step for each, with logits; "experts": the same, and which experts were chosen
    tokens     of every sequence
    sequences  that are decoded side by side
    filled     tokens that are in the cache before; one sequence only
    """

    kind: str
    tokens: int
    sequences: int = 1
    filled: int = 0


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a library that prints must not break the protocol
    llama_cpp.llama_log_set(_log_errors, None)
    model = Model(**json.loads(sys.stdin.readline()))
    print(json.dumps(model.description()), file=answers, flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        threads = command.pop("threads")
        try:
            if command["kind"] == "play":
                answer = model.play(threads=threads, **command)
            else:
                answer = model.run(Plan(**command), threads)
        except CommandError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), file=answers, flush=True)


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _log_errors(level: int, text: bytes, _: object) -> None:
    if level == LOG_LEVEL_ERROR:
        sys.stderr.write(text.decode(errors="replace"))
        sys.stderr.flush()


class Model:
    """The weights, and the context of the last plan, which the rounds of one measurement share."""

    def __init__(self, gguf: str, mapped: bool = False) -> None:
        llama_cpp.llama_backend_init()
        parameters = llama_cpp.llama_model_default_params()
        if mapped:
            parameters.use_extra_bufts = False  # which weights are copied to, in another order
        self.pointer = llama_cpp.llama_model_load_from_file(gguf.encode(), parameters)
        if not self.pointer:
            raise SystemExit(f"llama.cpp cannot load {gguf}")
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.pointer))
        self.longest = llama_cpp.llama_model_n_ctx_train(self.pointer)
        self.context: Context | None = None

    def description(self) -> dict[str, Any]:
        return {
            "vocabulary": self.vocabulary,
            "model_bytes": llama_cpp.llama_model_size(self.pointer),
            "system": llama_cpp.llama_print_system_info().decode(),
        }

    def run(self, plan: Plan, threads: int) -> dict[str, Any]:
        """Carry out a plan; when it is not the last one again, once before unmeasured, to warm up."""
        if plan.filled + plan.tokens > self.longest:
            raise CommandError(f"{plan} is longer than the {self.longest} tokens of this model's context")
        if self.context is None or self.context.plan != plan:
            self.context = self._new_context(plan, threads)
            self.context.run()
        llama_cpp.llama_set_n_threads(self.context.pointer, threads, threads)
        seconds = self.context.run()
        return {"experts": self.context.chosen} if plan.kind == "experts" else {"seconds": seconds}

    def play(
        self, kind: str, ids: list[int], fresh: bool, together: bool, watched: bool, threads: int
    ) -> dict[str, Any]:
        """Run tokens that are given, once, behind those of the last call if they are not `fresh`."""
        if fresh or self.context is None:
            self.context = self._new_context(Plan("experts" if watched else kind, PLAY_ROOM), threads)
        return {"seconds": self.context.play(ids, together), "experts": self.context.chosen}

    def _new_context(self, plan: Plan, threads: int) -> Context:
        if self.context is not None:
            self.context.free()  # before the next one takes its memory
            self.context = None
        return Context(self, plan, threads)


class Context:
    """A llama.cpp context that is as large as its plan; a run leaves it as it found it."""

    def __init__(self, model: Model, plan: Plan, threads: int) -> None:
        self.plan = plan
        rng = np.random.default_rng(SEED)
        self.ids = rng.integers(0, model.vocabulary, (plan.tokens, plan.sequences), np.int32)
        self.chosen: list[list[list[int]]] = []  # [token][MoE layer][k]
        self.start = 0  # position of the first token that is run

        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = -(-(plan.filled + plan.tokens) // CELLS) * CELLS * plan.sequences
        parameters.n_seq_max = 2 if plan.filled else plan.sequences
        parameters.kv_unified = bool(plan.filled)  # so that copies from SCRATCH are free
        parameters.n_threads = parameters.n_threads_batch = threads
        if plan.kind == "experts":
            self.observer = expert_observer(self.chosen)  # kept: C has only its address
            parameters.cb_eval = self.observer
        self.pointer = llama_cpp.llama_init_from_model(model.pointer, parameters)
        if not self.pointer:
            raise CommandError(f"llama.cpp cannot make a context for {plan}; is there memory for its cache?")
        self.memory = llama_cpp.llama_get_memory(self.pointer)
        self.most = parameters.n_batch
        self.batch = llama_cpp.llama_batch_init(self.most, 0, 1)
        if plan.filled:
            self._fill(rng.integers(0, model.vocabulary, min(CHUNK, plan.filled), np.int32))

    def run(self) -> float:
        """Seconds that the plan takes."""
        self.chosen.clear()
        started = time.perf_counter()
        if self.plan.kind == "prefill":
            for at in range(0, self.plan.tokens, self.most):
                self._prompt(self.ids[at : at + self.most, 0], self.start + at, MEASURED)
        else:
            for step, tokens in enumerate(self.ids):
                self.chosen.append([])
                self._step(tokens, self.start + step)
        llama_cpp.llama_synchronize(self.pointer)
        seconds = time.perf_counter() - started
        for sequence in range(self.plan.sequences):
            llama_cpp.llama_memory_seq_rm(self.memory, sequence, self.start, -1)
        return seconds

    def play(self, ids: list[int], together: bool) -> float:
        """Seconds for tokens that are given, which stay in the cache."""
        if self.start + len(ids) > self.plan.tokens:
            raise CommandError(f"there is room for {self.plan.tokens} tokens to play, and no more")
        self.chosen.clear()
        tokens = np.array(ids, np.int32)
        started = time.perf_counter()
        if together:
            for at in range(0, len(tokens), self.most):
                self._prompt(tokens[at : at + self.most], self.start + at, MEASURED)
        else:
            for step, token in enumerate(tokens):
                self.chosen.append([])
                self._step(np.array([token]), self.start + step)
        llama_cpp.llama_synchronize(self.pointer)
        self.start += len(ids)
        return time.perf_counter() - started

    def free(self) -> None:
        llama_cpp.llama_batch_free(self.batch)
        llama_cpp.llama_free(self.pointer)

    def _prompt(self, tokens: NDArray[np.int32], start: int, sequence: int) -> None:
        """Tokens of one sequence at once, with the logits of the last."""
        for at, token in enumerate(tokens):
            self._put(at, token, start + at, sequence, at == len(tokens) - 1)
        self._decode(len(tokens))

    def _step(self, tokens: NDArray[np.int32], position: int) -> None:
        """One token of each sequence, with its logits."""
        for sequence, token in enumerate(tokens):
            self._put(sequence, token, position, sequence, True)
        self._decode(len(tokens))

    def _put(self, at: int, token: int, position: int, sequence: int, has_logits: bool) -> None:
        self.batch.token[at] = token
        self.batch.pos[at] = position
        self.batch.n_seq_id[at] = 1
        self.batch.seq_id[at][0] = sequence
        self.batch.logits[at] = has_logits

    def _decode(self, count: int) -> None:
        self.batch.n_tokens = count
        status = llama_cpp.llama_decode(self.pointer, self.batch)
        if status:
            raise CommandError(f"llama_decode returned {status} for {count} tokens of {self.plan}")

    def _fill(self, tokens: NDArray[np.int32]) -> None:
        """Give MEASURED its `filled` cached tokens, without the hours that a prompt as long would take.

        The states of a few tokens are loaded again and again, at the same positions. Attention reads every
        copy, and what it costs depends neither on what was cached nor on where.
        """
        self._prompt(tokens, 0, SCRATCH)
        size = llama_cpp.llama_state_seq_get_size(self.pointer, SCRATCH)
        state = (ctypes.c_uint8 * size)()
        llama_cpp.llama_state_seq_get_data(self.pointer, state, size, SCRATCH)
        for at in range(0, self.plan.filled, len(tokens)):
            if at:
                self._load(state)
            rest = min(len(tokens), self.plan.filled - at)
            # The scratch sequence leaves behind what it shares with the measured one.
            llama_cpp.llama_memory_seq_rm(self.memory, SCRATCH, rest, -1)
            llama_cpp.llama_memory_seq_cp(self.memory, SCRATCH, MEASURED, -1, -1)
            llama_cpp.llama_memory_seq_rm(self.memory, SCRATCH, -1, -1)
        self.start = len(tokens)

    def _load(self, state: ctypes.Array[ctypes.c_uint8]) -> None:
        if not llama_cpp.llama_state_seq_set_data(self.pointer, state, len(state), SCRATCH):
            raise CommandError(f"llama.cpp cannot fill the cache of {self.plan}")


def expert_observer(chosen: list[list[list[int]]]) -> Any:
    """A callback for every node of the graph, which appends each layer's experts to the last token's list."""
    ggml = ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib" / "libggml-base.so"))
    ggml.ggml_get_name.restype = ctypes.c_char_p
    ggml.ggml_get_name.argtypes = [ctypes.c_void_p]
    ggml.ggml_nbytes.restype = ctypes.c_size_t
    ggml.ggml_nbytes.argtypes = [ctypes.c_void_p]
    ggml.ggml_backend_tensor_get.restype = None
    ggml.ggml_backend_tensor_get.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_size_t] * 2

    @llama_cpp.ggml_backend_sched_eval_callback  # type: ignore[untyped-decorator]
    def observe(tensor: int, is_question: bool, _: object) -> bool:
        is_choice = ggml.ggml_get_name(tensor).startswith(b"ffn_moe_topk-")
        if is_choice and not is_question:
            size = ggml.ggml_nbytes(tensor)
            experts = (ctypes.c_int32 * (size // 4))()
            ggml.ggml_backend_tensor_get(tensor, experts, 0, size)
            chosen[-1].append(list(experts))
        return is_choice or not is_question

    return observe


if __name__ == "__main__":
    main()
