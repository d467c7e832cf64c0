"""The files of a run that never was: contexts, answers and what is known about the models."""

import json
import random
from pathlib import Path

from solopo_llamafactory.common.files import write_json
from solopo_llamafactory.evaluate.arguments import EvalArguments
from tests.helpers.evaluation import eval_arguments


RIGHT, WRONG = "By the first document ... The answer is Esk.", "I do not know."


def make_run(
    folder: Path,
    outcomes: dict[str, list[str]],
    windows: dict[str, int | None] | None = None,
    questions: int = 2,
    hops: list[int] | None = None,
    short: dict[str, int] | None = None,
    text: str = "",
    tokens: dict[str, int] | None = None,
    **arguments,
) -> EvalArguments:
    """Write a run's files.

    Args:
        tokens: of single contexts, by id; ten below the length for all others.
        outcomes: by model, a string for each question with a sign for each cell (by length, then depth): `+` right, `-` wrong,
            `~` wrong and cut off, and any other sign for no answer.
    """
    values = {"output": str(folder), "models": [{"name": name} for name in outcomes], "max_new_tokens": 64}
    args = eval_arguments(folder, **{**values, "lengths": [1000, 4000], "depths": [0.0, 1.0], **arguments})
    hops = hops or [2] * questions
    cells = [(length, depth) for length in args.lengths for depth in args.depths]
    (folder / "answers").mkdir(parents=True)
    with open(folder / "contexts.jsonl", "w") as file:
        for length, depth in cells:
            for number in range(questions):
                row = make_context(number, length, depth, hops[number], text)
                row["tokens"] = (tokens or {}).get(row["id"], row["tokens"])
                file.write(json.dumps(row) + "\n")
    for name, signs in outcomes.items():
        with open(folder / "answers" / f"{name}.jsonl", "w") as file:
            for number, question in enumerate(signs):
                for (length, depth), sign in zip(cells, question):
                    if sign in "+-~":
                        id = f"q{number}|{length}|{depth}"
                        row = {"id": id, "settings": "s", "samples": [make_sample(sign, text)]}
                        file.write(json.dumps(row) + "\n")
    write_json(
        folder / "grid.json",
        {
            "arguments": {},
            "questions": questions,
            "read": questions + 3,
            "skipped": {"too long": 3},
            "short": short or {},
        },
    )
    for name in outcomes:
        record = {"window": (windows or {}).get(name), "arguments": {"batch_size": 4}}
        write_json(args.record_path(name), record)
    return args


def make_context(number: int, length: int, depth: float, hops: int, text: str) -> dict:
    return {
        "id": f"q{number}|{length}|{depth}",
        "question_id": f"q{number}",
        "length": length,
        "depth": depth,
        "hops": hops,
        "question": f"Where was {number} born?{text}",
        "answers": ["Esk", f"Old Esk{text}"],
        "prompt": "Read the following documents.",
        "tokens": length - 10,
        "documents": length // 100,
        "positions": list(range(1, hops + 1)),
        "evidence": [f"Title {number}.{hop}{text}" for hop in range(hops)],
        "source": "musique",
        "licence": "CC BY 4.0",
    }


def make_sample(sign: str, text: str) -> dict:
    return {
        "text": text + (RIGHT if sign == "+" else WRONG),
        "finish": "length" if sign == "~" else "stop",
    }


def simulate(shares: list[float], questions: int, seed: int, spread: float = 0.25) -> list[str]:
    """Outcomes with these chances of a right answer in each cell; questions differ in how hard they are."""
    rng = random.Random(seed)
    hardness = random.Random(0)
    signs = []
    for _ in range(questions):
        shift = hardness.uniform(-spread, spread)
        signs.append("".join("+" if rng.random() < share + shift else "-" for share in shares))
    return signs
