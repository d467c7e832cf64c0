"""Attention alone over a packed row, with Qwen2.5-7B's heads in bfloat16: `python -m benchmarks.attention`.

Milliseconds of a forward and backward pass, for the kernels that are installed, at fixed lengths and at lengths that
change with every call, as in training (cuDNN builds a plan for each new shape). On a CPU: a tiny row in float32.
"""

import argparse
import inspect
import random
import sys
import time
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from solopo_llamafactory.common.markdown import row, table
from solopo_llamafactory.data.packing import RowLayout, pack
from solopo_llamafactory.data.sequences import Example, sequences_of
from solopo_llamafactory.model.attention import (
    GPU_LENGTH_MULTIPLE,
    eager_spans,
    flash_spans,
    sdpa_spans,
    varlen_inputs,
)

from .cells import ANSWER, JITTER, SHORT_PROMPT


QUERY_HEADS, KEY_HEADS, HEAD_SIZE = 28, 4, 128
WARMUPS, CALLS = 3, 10
LARGEST_DIFFERENCE = 0.02  # of two kernels' results in bfloat16, as a part of their norm

Attend = Callable[[Tensor, Tensor, Tensor, RowLayout, float, float], Tensor]


def main(argv: list[str] | None = None) -> int:
    """Returns 1 when two kernels disagree."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attention", description=__doc__.splitlines()[0])
    on_gpu = torch.cuda.is_available()
    parser.add_argument(
        "--length",
        default="8192,16384" if on_gpu else "128",
        help="tokens of the long prompt with its answer, separated by commas",
    )
    lengths = [int(text) for text in parser.parse_args(argv).length.split(",")]
    kernels = GPU_KERNELS if on_gpu else CPU_KERNELS
    filled = f"ms, changing, filled to multiples of {GPU_LENGTH_MULTIPLE}"
    header = ["length", "kernel", "ms, fixed lengths", "ms, changing lengths", filled, "TFLOP/s"]
    print(table([*header, "difference to the first"], []))
    equal = True
    for length in lengths:
        first = None
        for number, (name, attend) in enumerate(kernels.items()):
            try:
                results = [result.detach() for result in run(attend, *inputs(row_layout(length)))]
            except (AttributeError, ImportError, RuntimeError, TypeError, ValueError) as err:
                print(row([length, name, f"skipped: {reason(err)}", *"----"]), flush=True)
                continue
            first = first or results
            difference = max(map(relative_difference, results, first))
            if difference > LARGEST_DIFFERENCE:
                equal = False
                print(row([length, name, "WRONG", *"---", f"{difference:.1%}"]), flush=True)
                continue
            fixed, *changing = milliseconds(attend, length, number)
            flops = 3 * 4 * row_layout(length).attention_pairs * QUERY_HEADS * HEAD_SIZE
            times = [f"{time:.2f}" for time in (fixed, *changing)]
            print(row([length, name, *times, f"{flops / fixed / 1e9:.3g}", f"{difference:.2%}"]), flush=True)
    return int(not equal)


def row_layout(length: int, rng: random.Random | None = None, multiple: int = 1) -> RowLayout:
    """The layout of one example; with `rng`, a bit shorter at random. `multiple`: see `packing.pack`."""
    short, answer = (SHORT_PROMPT, ANSWER) if length > 4 * SHORT_PROMPT else (length // 4, length // 8)
    if rng is not None:
        short -= rng.randint(0, int(JITTER * short))
        length -= rng.randint(0, int(JITTER * length))
    example = Example([0] * short, [0] * (length - answer), [0] * answer, [1] * answer)
    return pack([example], sequences_of("both"), multiple).layout


def inputs(layout: RowLayout) -> tuple[Tensor, Tensor, Tensor, RowLayout]:
    """Random query, key and value, (1, heads, T, head size), as a model hands them over."""
    device, dtype = ("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu", torch.float32)
    torch.manual_seed(0)
    tokens = layout.spans[-1].end
    query, key, value = (
        torch.randn(1, tokens, heads, HEAD_SIZE, device=device, dtype=dtype).transpose(1, 2).requires_grad_()
        for heads in (QUERY_HEADS, KEY_HEADS, KEY_HEADS)
    )
    return query, key, value, layout


def run(attend: Attend, query: Tensor, key: Tensor, value: Tensor, layout: RowLayout) -> tuple[Tensor, ...]:
    """Forward and backward: the output and the gradients of query, key and value."""
    output = attend(query, key, value, layout, HEAD_SIZE**-0.5, 0.0)
    return output, *torch.autograd.grad(output.square().mean(), (query, key, value))


def relative_difference(a: Tensor, b: Tensor) -> float:
    return float((a.float() - b.float()).norm() / b.float().norm())


def milliseconds(attend: Attend, length: int, seed: int) -> tuple[float, float, float]:
    """Mean of a call at fixed lengths, with lengths that no call had before, and with those filled, as in training."""
    layout = row_layout(length)
    timed(attend, [inputs(layout)] * WARMUPS)
    fixed = timed(attend, [inputs(layout)] * CALLS)
    rng = random.Random(seed)  # other lengths for each kernel: plans are shared in a process
    new = timed(attend, [inputs(row_layout(length, rng)) for _ in range(CALLS)])
    filled = [inputs(row_layout(length, rng, GPU_LENGTH_MULTIPLE)) for _ in range(4 * CALLS)]
    return fixed, new, timed(attend, filled)


def timed(attend: Attend, calls: Iterable[tuple]) -> float:
    calls = list(calls)
    synchronize()
    start = time.perf_counter()
    for call in calls:
        run(attend, *call)
    synchronize()
    return (time.perf_counter() - start) / len(calls) * 1000


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def reason(err: Exception) -> str:
    return (str(err).strip().splitlines() or [type(err).__name__])[0][:120]


def sdpa_with(*names: str) -> Attend:
    """SDPA per span with these kernels only, the first preferred."""

    def attend(*args) -> Tensor:
        from torch.nn.attention import SDPBackend, sdpa_kernel

        with sdpa_kernel([getattr(SDPBackend, name) for name in names], set_priority=True):
            return sdpa_spans(*args)

    return attend


def varlen_spans(
    query: Tensor, key: Tensor, value: Tensor, layout: RowLayout, scaling: float, dropout: float
) -> Tensor:
    """One call of torch's own varlen kernel for the row. Without its GQA (older torch), k and v are repeated."""
    from torch.nn.attention.varlen import varlen_attn

    known = inspect.signature(varlen_attn).parameters
    options = {"window_size": (-1, 0)} if "window_size" in known else {"is_causal": True}
    inputs = varlen_inputs(query, key, value, layout)
    states = inputs[:3]
    if "enable_gqa" in known:
        options["enable_gqa"] = True
    else:
        states = [each.repeat_interleave(query.shape[1] // each.shape[1], dim=1) for each in states]
    if "scale" in known:
        options["scale"] = scaling
    elif scaling != query.shape[-1] ** -0.5:
        raise ValueError("this torch's varlen kernel takes no scale")
    return varlen_attn(*(each.contiguous() for each in states), *inputs[3:], **options)[None]


REST = ("EFFICIENT_ATTENTION", "MATH")
GPU_KERNELS: dict[str, Attend] = {
    "SDPA, torch's choice": sdpa_spans,
    "SDPA, cuDNN first": sdpa_with("CUDNN_ATTENTION", "FLASH_ATTENTION", *REST),
    "SDPA, cuDNN only": sdpa_with("CUDNN_ATTENTION"),
    "SDPA, flash first": sdpa_with("FLASH_ATTENTION", "CUDNN_ATTENTION", *REST),
    "SDPA, flash only": sdpa_with("FLASH_ATTENTION"),
    "torch's varlen": varlen_spans,
    "flash-attn's varlen": flash_spans,
}
CPU_KERNELS: dict[str, Attend] = {"SDPA": sdpa_spans, "eager": eager_spans}

if __name__ == "__main__":
    sys.exit(main())
