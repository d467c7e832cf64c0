"""Peak memory and time of a training step on padded rows: one batch, two groups in one graph, a backward pass for each.

    python -m benchmarks.padded_groups --threads 1

On the CPU, where the profiler sees each allocation; a small LFM2 (convolutions and attention) with random weights, in
float32. Weights and their gradients, which an earlier micro-batch has left, are not counted: what a step adds at its peak
is.
"""

import argparse
import os
import time

import torch
import transformers

from solopo_llamafactory.data.padding import PaddedBatch, PaddedRows, pad, pad_rows
from solopo_llamafactory.data.sequences import Example, sequences_of
from solopo_llamafactory.model.logprobs import answer_logps, answering_at, token_logps
from solopo_llamafactory.train.row_groups import SmallerGroup


SHORT, LONG, CHOSEN, REJECTED = 180, 1250, 12, 5  # a sixth of a MuSiQue example
SHAPE = {
    "vocab_size": 2000,
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 6,
    "layer_types": ["conv", "conv", "full_attention"] * 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}


def in_one_batch(example: Example) -> PaddedBatch:
    """All three sequences in one group, whose rows are all as wide as the longest."""
    pairs = sequences_of("both").token_ids(example)
    rows = pad_rows(pairs, pairs, pad_token_id=0)
    lengths_NS = torch.tensor([[len(answer) for _, answer in pairs]])
    return PaddedBatch((rows,), rows.places_A, rows.targets_A, lengths_NS)


def log_probs(model, rows: PaddedRows) -> torch.Tensor:
    with answering_at(model.get_output_embeddings(), rows.logit_positions_A):
        logits = model(
            rows.input_ids_BW,
            attention_mask=rows.attention_mask_BW,
            position_ids=rows.position_ids_BW,
            use_cache=False,
        ).logits
    return token_logps(logits[0], rows.targets_A)


def loss_of(logps_A: torch.Tensor, lengths_NS: torch.Tensor) -> torch.Tensor:
    sums = answer_logps(logps_A, lengths_NS)
    return (sums[:, 1] - sums[:, 0] + (sums[:, 0] - sums[:, 2]).abs()).mean()


def one_graph(model, batch: PaddedBatch) -> None:
    logps_A = torch.cat([log_probs(model, rows) for rows in batch.groups])
    loss_of(logps_A[batch.order_A], batch.answer_lengths_NS).backward()


def backward_each(model, batch: PaddedBatch) -> None:
    larger, smaller = batch.groups
    again = SmallerGroup(torch.device("cpu"))
    logps_A = again.first(lambda: log_probs(model, smaller))
    loss = loss_of(torch.cat([log_probs(model, larger), logps_A])[batch.order_A], batch.answer_lengths_NS)
    again.take_gradient(loss)
    loss.backward()
    del loss, logps_A
    again.again(lambda: log_probs(model, smaller)).backward()


def peak_bytes(step) -> int:
    """Most bytes that live at a time of what a step allocates."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(
        f"torch {torch.__version__}, transformers {transformers.__version__}, {args.threads} of {os.cpu_count()} cores"
    )
    tokens = torch.randint(10, 2000, (SHORT + LONG + CHOSEN + REJECTED,), generator=torch.manual_seed(0)).tolist()
    parts = [SHORT, SHORT + LONG, SHORT + LONG + CHOSEN]
    example = Example(tokens[: parts[0]], tokens[parts[0] : parts[1]], tokens[parts[1] : parts[2]], tokens[parts[2] :])
    grouped = pad([example], sequences_of("both"), pad_token_id=0)
    together = in_one_batch(example)
    torch.manual_seed(0)
    config = transformers.Lfm2Config(**SHAPE)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").train()
    weights = sum(parameter.nbytes for parameter in model.parameters())
    print(f"Weights, and so a set of gradients: {weights / 2**20:.0f} MiB")
    for checkpoints in (False, True):
        if checkpoints:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        print("All layers recompute:" if checkpoints else "Nothing recomputes:")
        for way, batch, step in [
            ("one batch", together, one_graph),
            ("two groups, one graph", grouped, one_graph),
            ("two groups, a backward for each", grouped, backward_each),
        ]:
            step(model, batch)  # leaves gradients
            seconds = []
            for _ in range(args.repeats):
                start = time.perf_counter()
                step(model, batch)
                seconds.append(time.perf_counter() - start)
            peak = peak_bytes(lambda: step(model, batch))  # noqa: B023
            tokens = sum(rows.input_ids_BW.numel() for rows in batch.groups)
            print(f"  {way:<33}{tokens:>5} tokens {peak / 2**20:5.0f} MiB {min(seconds):6.2f} s")


if __name__ == "__main__":
    main()
