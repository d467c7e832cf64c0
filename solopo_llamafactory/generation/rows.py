"""Rows of answers that grow together on the device, and which are replaced one by one."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import logging

from .choice import Decoding
from .passes import fill, grow
from .room import Shape
from .slots import Slots


logger = logging.get_logger(__name__)


class Rows:
    """R answers under way. A row's step is the same whatever the other rows hold, and on one GPU a CUDA graph of its own."""

    @torch.inference_mode()
    def __init__(self, model: PreTrainedModel, shape: Shape, decoding: Decoding, vocabulary: int) -> None:
        self.model, self.shape, self.decoding = model, shape, decoding
        self.device = model.get_input_embeddings().weight.device
        rows = shape.prompts * shape.width
        self.slots = Slots(shape.prompts, shape.width, shape.prompt_tokens, shape.answer_tokens, self.device)
        self._token_R = torch.zeros(rows, dtype=torch.long, device=self.device)
        self._ended_R = torch.ones(rows, dtype=torch.bool, device=self.device)
        self._answers_RT = torch.zeros(rows, shape.answer_tokens, dtype=torch.long, device=self.device)
        self._uniform_RT = torch.zeros(rows, shape.answer_tokens, dtype=torch.float64, device=self.device)
        self._is_end_V = torch.zeros(vocabulary, dtype=torch.bool, device=self.device)
        self._is_end_V[[token for token in decoding.ends if token < vocabulary]] = True
        self._graph: torch.cuda.CUDAGraph | None = None
        devices = {parameter.device for parameter in model.parameters()}
        if self.device.type == "cuda" and len(devices) == 1:
            self._capture()

    @torch.inference_mode()
    def fill(self, slots: Sequence[int], prompts: Sequence[Sequence[int]]) -> None:
        """Compute prompts, without their last tokens, into slots: at most `shape.together`."""
        rows = [prompt[:-1] for prompt in prompts]
        missing = self.shape.together - len(rows)  # the same shape each time: the first prompt stands in
        rows, slots = rows + rows[:1] * missing, [*slots, *slots[:1] * missing]
        tokens = torch.zeros(len(rows), self.shape.prompt_tokens, dtype=torch.long)
        for line, prompt in zip(tokens, rows):
            line[: len(prompt)] = torch.tensor(prompt, dtype=torch.long)
        fill(self.model, self.slots, torch.tensor(slots, device=self.device), tokens.to(self.device))

    @torch.inference_mode()
    def begin(self, rows: Sequence[int], prompts: Sequence[Sequence[int]], uniform_RT: Tensor | None) -> None:
        """Start answers to prompts that are in these rows' slots, with their random numbers."""
        index = torch.tensor(rows, device=self.device)
        self._token_R[index] = torch.tensor([prompt[-1] for prompt in prompts], device=self.device)
        self.slots.start_R[index] = torch.tensor([len(prompt) - 1 for prompt in prompts], device=self.device)
        self.slots.step_R[index] = 0
        self._ended_R[index] = False
        if uniform_RT is not None:
            self._uniform_RT[index] = uniform_RT.to(self.device)

    @torch.inference_mode()
    def grow(self, steps: int) -> list[bool]:
        """Let all rows grow by some tokens, and return for each whether its answer has ended."""
        for _ in range(steps):
            self._graph.replay() if self._graph is not None else self._step()
        return self._ended_R.tolist()

    @torch.inference_mode()
    def answers(self, rows: Sequence[int]) -> list[list[int]]:
        """The tokens of answers that have ended, their end tokens included."""
        index = torch.tensor(rows, device=self.device)
        lengths = (self.slots.step_R[index] + 1).tolist()
        return [tokens[:length] for tokens, length in zip(self._answers_RT[index].tolist(), lengths)]

    def _step(self) -> None:
        step_R = self.slots.step_R
        logits_RV = grow(self.model, self.slots, self._token_R).to(self.device)
        uniform_R = self._uniform_RT.gather(1, step_R[:, None])[:, 0]
        self._token_R.copy_(torch.where(self._ended_R, self._token_R, self.decoding(logits_RV, uniform_R)))
        self._answers_RT.scatter_(1, step_R[:, None], self._token_R[:, None])
        self._ended_R |= self._is_end_V[self._token_R] | (step_R == self.shape.answer_tokens - 1)
        step_R.add_(~self._ended_R)

    def _capture(self) -> None:
        """Without a graph, a small model's GPU waits for the host, which starts each of its kernels."""
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        mode = torch.cuda.get_sync_debug_mode()
        try:
            with torch.cuda.device(self.device), torch.cuda.stream(stream):
                self._step()  # all rows have ended; kernels are loaded and memory is taken
                with warnings.catch_warnings(action="ignore"):  # torch calls the mode a prototype
                    torch.cuda.set_sync_debug_mode("error")
                self._step()
        except RuntimeError as error:  # some layers ask for values, such as experts' loads
            if isinstance(error, torch.OutOfMemoryError):
                raise
            logger.warning_once(f"Answers grow without a CUDA graph, slower: {str(error).splitlines()[0]}")
            return
        finally:
            torch.cuda.set_sync_debug_mode(mode)
            torch.cuda.current_stream(self.device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self.device), torch.cuda.graph(self._graph):
            self._step()
