"""Reading a page as a browser would."""

from html.parser import HTMLParser
from pathlib import Path


class Page(HTMLParser):
    """What a browser would find: the tags, their links, and the marked texts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags, self.links, self.ids, self.marked, self.text = [], [], [], [], []
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "data"):
                self.links.append((tag, value))
            elif name == "id":
                self.ids.append(value)
        if tag == "mark":
            self.marked.append("")

    def handle_data(self, data):
        self.text.append(data)
        if self.tags and self.tags[-1] == "mark" and self.marked[-1] == "":
            self.marked[-1] = data


def shown(page: Page) -> str:
    """The text of a page, with single spaces."""
    return " ".join("".join(page.text).split())
