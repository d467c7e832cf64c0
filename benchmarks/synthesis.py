"""Speed and memory of `solopo synthesize`, on CPUs alone: `python -m benchmarks.synthesis`.

Made-up questions in MuSiQue's schema, 20 paragraphs each like those of its training set (most used once, a tenth by
several questions), of the demo corpus's words. The tokenizer is a byte-level BPE that learns from that corpus.
"""

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from solopo_llamafactory.common.markdown import row, table
from solopo_llamafactory.construct.arguments import BuildArguments
from solopo_llamafactory.construct.synthesize import synthesize
from solopo_llamafactory.model.tiny import make_tiny_model
from solopo_llamafactory.questions.rendering import Renderer

from .data_side import VOCABULARY, paragraphs


PARAGRAPHS, WORDS = 20, 85  # of a question, of a paragraph
SHARED = 0.1  # of the paragraphs


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.synthesis", description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=5000)
    parser.add_argument("--short", type=int, default=1100, help="tokens of a short prompt")
    parser.add_argument("--long", type=int, default=7500, help="tokens of a long prompt")
    parser.add_argument("--workers", type=int, help="processes (default: as many as cores)")
    args = parser.parse_args(argv)

    print(table(["verify", "examples", "s", "examples/s", "GiB, main process", "GiB, largest other"], []))
    with tempfile.TemporaryDirectory() as folder:
        make_tiny_model(f"{folder}/model", texts=paragraphs(), vocab_size=VOCABULARY, hidden_size=8, num_layers=1)
        write_questions(Path(folder, "questions.jsonl"), args.examples)
        renderer = Renderer(f"{folder}/model", "qwen")
        for verify in (False, True):
            start = time.perf_counter()
            summary = synthesize(
                BuildArguments(
                    source="musique",
                    input=f"{folder}/questions.jsonl",
                    output=f"{folder}/pairs.jsonl",
                    tokenizer=f"{folder}/model",
                    template="qwen",
                    short_tokens=args.short,
                    long_tokens=args.long,
                    num_contexts=args.examples,
                    preprocessing_num_workers=args.workers,
                    verify=verify,
                ),
                renderer,
            )
            seconds = time.perf_counter() - start
            # Linux counts KiB. The peaks are of the whole command so far.
            own, others = (
                resource.getrusage(who).ru_maxrss / 2**20 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
            )
            written = summary["written"]
            figures = [f"{seconds:.1f}", f"{written / seconds:.0f}", f"{own:.2f}", f"{others:.2f}"]
            print(row([verify, written, *figures]), flush=True)
    return 0


def write_questions(path: Path, count: int) -> None:
    """`count` questions of two hops."""
    rng = random.Random(0)
    words = sorted({word for text in paragraphs() for word in text.split()})

    def make_paragraph() -> dict:
        text = " ".join(rng.choices(words, k=rng.randint(WORDS // 2, WORDS * 3 // 2)))
        return {"title": " ".join(rng.choices(words, k=3)), "paragraph_text": text}

    shared = [make_paragraph() for _ in range(count)]
    with path.open("w", encoding="utf-8") as file:
        for i in range(count):
            parts = [rng.choice(shared) if rng.random() < SHARED else make_paragraph() for _ in range(PARAGRAPHS)]
            answer = f"Zanthor {i}"
            parts[1] = parts[1] | {"paragraph_text": f"{parts[1]['paragraph_text']} {answer}"}
            steps = [{"question": "which", "answer": "one", "paragraph_support_idx": 0}]
            steps.append({"question": "of #1", "answer": answer, "paragraph_support_idx": 1})
            record = {
                "id": f"2hop__{i}",
                "question": " ".join(rng.choices(words, k=12)),
                "answer": answer,
                "answer_aliases": [],
                "answerable": True,
                "paragraphs": [{"idx": j, **part, "is_supporting": j < 2} for j, part in enumerate(parts)],
                "question_decomposition": steps,
            }
            file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    sys.exit(main())
