"""Counts in words."""

from collections import Counter


def reasons(skipped: Counter[str] | dict[str, int]) -> str:
    """Counts by reason, the commonest first."""
    return ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items(), key=lambda x: (-x[1], x[0])))
