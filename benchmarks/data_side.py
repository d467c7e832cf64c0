"""Speed of what feeds the GPU, on CPUs alone: `python -m benchmarks.data_side`.

Examples a second of the processor (text to token ids) in one process, and of the collator behind a torch DataLoader.
The tokenizer is a byte-level BPE that learns from the demo corpus, and the texts are that corpus's paragraphs.
"""

import argparse
import itertools
import random
import sys
import tempfile
import time

from torch.utils.data import DataLoader

from solopo_llamafactory.common.json_records import read_json_records
from solopo_llamafactory.common.markdown import row, table

from .cells import ANSWER, SHORT_PROMPT
from .workload import ROOT


VOCABULARY = 8192  # tokens of the BPE; the corpus is small
WORKERS = (0, 1, 2, 4)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data_side", description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=64)
    parser.add_argument("--short", type=int, default=SHORT_PROMPT, help="tokens of a short prompt, about")
    parser.add_argument("--long", type=int, default=7500, help="tokens of a long prompt, about")
    parser.add_argument("--batches", type=int, default=512, help="that each DataLoader yields")
    args = parser.parse_args(argv)

    processor = make_processor()
    rows = make_rows(processor.tokenizer, args.examples, args.short, args.long)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    start = time.perf_counter()
    output = processor.preprocess_dataset(columns)
    seconds = time.perf_counter() - start
    dropped = [reason for reason in output["drop_reason"] if reason is not None]
    if dropped:
        raise ValueError(f"The processor dropped an example: {dropped[0]}.")
    features = [dict(zip(output, values)) for values in zip(*output.values())]
    tokens = sum(len(feature[name]) for feature in features for name in feature if name.endswith("_ids"))
    short = sum(len(feature["short_prompt_ids"]) for feature in features) / len(features)
    long = sum(len(feature["long_prompt_ids"]) for feature in features) / len(features)
    print(f"{len(features)} examples, mean prompts of {short:.0f} and {long:.0f} tokens\n")
    print(table(["part", "examples/s", "tokens/s"], []))
    print(row(["processor, one process", f"{len(features) / seconds:.1f}", f"{tokens / seconds:.3g}"]), flush=True)
    for workers in WORKERS:
        rate, token_rate = collator_rates(features, args.batches, workers)
        name = f"collator, num_workers {workers}"
        print(row([name, f"{rate:.1f}", f"{token_rate:.3g}"]), flush=True)
    return 0


def make_processor():
    """The stage's processor with the `qwen` template."""
    from llamafactory.data import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments
    from transformers import AutoTokenizer

    from solopo_llamafactory.data.processor import SolopoDatasetProcessor
    from solopo_llamafactory.model.tiny import make_tiny_model

    with tempfile.TemporaryDirectory() as folder:
        make_tiny_model(folder, texts=paragraphs(), vocab_size=VOCABULARY, hidden_size=8, num_layers=1)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    data_args = DataArguments(template="qwen", cutoff_len=1 << 20)
    template = get_template_and_fix_tokenizer(tokenizer, data_args)
    return SolopoDatasetProcessor(template, tokenizer, None, data_args)


def paragraphs() -> list[str]:
    """The different paragraphs of the demo corpus."""
    records = [record for _, record in read_json_records(ROOT / "data" / "demo_corpus.jsonl")]
    return list(dict.fromkeys(paragraph["paragraph_text"] for record in records for paragraph in record["paragraphs"]))


def make_rows(tokenizer, count: int, short: int, long: int) -> list[dict]:
    """Rows as the converter hands them over, with about so many tokens."""
    sizes = {text: len(tokenizer.encode(text)) for text in paragraphs()}
    rng = random.Random(0)

    def text(tokens: int) -> str:
        parts, size = [], 0
        while size < tokens:
            parts.append(rng.choice(list(sizes)))
            size += sizes[parts[-1]]
        return "\n".join(parts)

    return [
        {
            "id": str(i),
            "data_set": "made_up",
            "gold": None,
            "short_prompt": [{"role": "user", "content": text(short)}],
            "short_system": "",
            "long_prompt": [{"role": "user", "content": text(long)}],
            "long_system": "",
            "chosen": text(ANSWER),
            "rejected": text(ANSWER),
            "drop_reason": None,
            "drop_value": None,
        }
        for i in range(count)
    ]


def collator_rates(features: list[dict], batches: int, workers: int) -> tuple[float, float]:
    """Examples and packed tokens a second, from the first batch on (starting the workers does not count)."""
    from solopo_llamafactory.data.collator import SolopoCollator
    from solopo_llamafactory.data.sequences import sequences_of

    dataset = list(itertools.islice(itertools.cycle(features), batches))
    collator = SolopoCollator(sequences_of("both"), packed=True, pad_token_id=0)
    loader = iter(DataLoader(dataset, batch_size=1, collate_fn=collator, num_workers=workers))
    next(loader)
    start = time.perf_counter()
    tokens = [batch["input_ids"].numel() for batch in loader]
    seconds = time.perf_counter() - start
    return len(tokens) / seconds, sum(tokens) / seconds


if __name__ == "__main__":
    sys.exit(main())
