"""2WikiMultihopQA."""

from .hotpotqa import HotpotqaSource
from .records import Record


class TwoWikiSource(HotpotqaSource):
    """2WikiMultihopQA's official schema, HotpotQA's with `evidences`, or that of its copies on the Hub."""

    name = "2wikimultihopqa"
    licence = "Apache-2.0"
    schema = "2WikiMultihopQA"

    def check(self, record: Record) -> None:
        """Refuses HotpotQA's records: the field is not used, but they have none."""
        record.get("evidences", (list, dict))

    def join(self, sentences: list[str]) -> str:
        """Makes a paragraph: 2WikiMultihopQA's sentences have no spaces around them."""
        return " ".join(text for sentence in sentences if (text := sentence.strip()))
