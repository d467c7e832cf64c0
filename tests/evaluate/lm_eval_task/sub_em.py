"""The metric of the task beside this file; lm-evaluation-harness calls it."""


def process_results(doc: dict, results: list[str]) -> dict[str, float]:
    """1 where the answer holds the gold answer or an alias, else 0."""
    answer = results[0].casefold()
    return {"score": float(any(gold.casefold() in answer for gold in doc["answers"]))}
