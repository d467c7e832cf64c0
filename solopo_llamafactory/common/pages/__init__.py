"""What the pages of the data step and of the evaluation share: style, licences, and templates that escape all texts."""

from pathlib import Path

import jinja2


TITLES = {
    "musique": "MuSiQue",
    "hotpotqa": "HotpotQA",
    "2wikimultihopqa": "2WikiMultihopQA",
    "squad": "SQuAD",
    "two_hop": "Made-up two-hop questions",
}
LICENCES = {
    "CC BY 4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC BY-SA 4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
    "Apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
}


def load_template(path: Path) -> jinja2.Template:
    """A page's template, which may include the files of this folder; it knows TITLES and LICENCES."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([path.parent, Path(__file__).parent]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    environment.filters["thousands"] = lambda value: f"{value:,}"
    environment.globals |= {"titles": TITLES, "licences": LICENCES}
    return environment.get_template(path.name)
