"""Further documents to draw distractors from."""

from ..common.errors import SolopoError
from .sources.generic import read_document
from .sources.questions import Document
from .sources.records import Record, read_file


def read_corpus(path: str) -> list[Document]:
    """Reads a file of {"title", "text"}; the title may be left out, and empty texts are.

    Raises:
        SolopoError: for a file that cannot be read or is empty, or a row of another schema.
    """
    rows = [read_document(Record(row, where, "corpus")) for where, row in read_file(path)]
    documents = [document for document in rows if document.text]
    if not documents:
        raise SolopoError(f"corpus '{path}' holds no documents: write one object with `title` and `text` a line.")
    return documents
