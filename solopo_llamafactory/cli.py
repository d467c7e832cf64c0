"""The `solopo` command. Top-level imports are the standard library only, so that `solopo --help` is instant."""

import os
import sys
from functools import partial


USAGE = """usage: solopo COMMAND ...

commands:
  init FOLDER                                recipes, dataset_info.json and demo data in a new folder to work in
  build [CONFIG.yaml] [key=value ...]        make training pairs from questions and documents (--help lists the keys)
  synthesize, sample, select, report         the steps of build, each alone, with the same CONFIG.yaml and keys
  eval [CONFIG.yaml] [key=value ...]         ask models over lengths and evidence depths, score, draw (--help: the keys)
  compare NAME=FOLDER ... [output=FILE.md]   lay results of lm_eval beside the paper's table
  tiny-model OUTPUT [family=qwen2|llama]     make a tiny random model with its tokenizer, for demos and tests

options:
  -h, --help       this text
  --version        the version"""

INIT_USAGE = """usage: solopo init FOLDER

Writes recipes/, data/ and dataset_info.json into FOLDER. Commands of the recipes and the documentation run from there."""

TINY_USAGE = """usage: solopo tiny-model OUTPUT [family=qwen2|llama]

Makes a tiny random model in the folder OUTPUT (family: qwen2 by default). Its tokenizer is trained on
data/demo_corpus.jsonl, which comes with this package."""

COMPARE_USAGE = """usage: solopo compare NAME=FOLDER [NAME=FOLDER ...] [output=FILE.md]

Prints a Markdown page: the averages of each model beside the paper's, every task, and what is comparable. FOLDER is what
lm_eval was given as --output_path; the first model is the one that the others are compared with. See recipes/eval/lm_eval.
Example: solopo compare base=saves/lm_eval/base trained=saves/lm_eval/qwen_solo_orpo output=saves/lm_eval/table.md"""

FAMILIES = ("qwen2", "llama")


class CommandError(Exception):
    """One sentence for the user."""


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(USAGE)
        return 0
    if argv[0] in ("--version", "version"):
        from . import __version__

        print(f"solopo-llamafactory {__version__}")
        return 0

    command, rest = argv[0], argv[1:]
    if command not in COMMANDS:
        names = list(COMMANDS)
        print(f"solopo: '{command}' is not a command: write {', '.join(names[:-1])} or {names[-1]}.", file=sys.stderr)
        return 1
    from .common.errors import SolopoError

    try:
        COMMANDS[command](rest)
    except (CommandError, SolopoError) as error:
        print(f"solopo {command}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output (`| head`) has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print(f"solopo {command}: stopped.", file=sys.stderr)
        return 130
    return 0


def construction_step(name: str, argv: list[str]) -> None:
    """`solopo build` or one of its steps: checks its arguments before anything heavy is imported."""
    from .common.config import describe, help_text, parse
    from .construct.arguments import BuildArguments
    from .questions.wording import Wording

    if not argv or "-h" in argv or "--help" in argv:
        print(help_text(BuildArguments, usage=f"solopo {name} [CONFIG.yaml] [key=value ...]"))
        print(f"\nKeys of own texts under `wording`:\n{describe(Wording)}")
        return
    args = parse(BuildArguments, argv)
    from .construct.run import STEPS

    STEPS[name](args)


def evaluation(argv: list[str]) -> None:
    """`solopo eval`: checks its arguments before anything heavy is imported."""
    from .common.config import describe, help_text, parse
    from .evaluate.arguments import EvalArguments, EvalModel
    from .questions.wording import Wording

    if not argv or "-h" in argv or "--help" in argv:
        print(help_text(EvalArguments, usage="solopo eval [CONFIG.yaml] [key=value ...]"))
        print(f"\nKeys of each of `models`:\n{describe(EvalModel)}")
        print(f"\nKeys of own texts under `wording`:\n{describe(Wording)}")
        return
    args = parse(EvalArguments, argv, "solopo eval")
    from .evaluate.run import run_eval

    run_eval(args)


def compare(argv: list[str]) -> None:
    """`solopo compare`: results of lm-evaluation-harness beside the paper's."""
    if not argv or "-h" in argv or "--help" in argv:
        print(COMPARE_USAGE)
        return
    folders: dict[str, str] = {}
    for argument in argv:
        name, _, folder = argument.partition("=")
        if not name or not folder:
            raise CommandError(f"'{argument}' is not NAME=FOLDER: write for example base=saves/lm_eval/base.")
        if name in folders:
            raise CommandError(f"'{name}' is given twice: give each model a name of its own.")
        folders[name] = folder
    output = folders.pop("output", None)
    if not folders:
        raise CommandError("no model is given: write for example base=saves/lm_eval/base before output=FILE.md.")
    from .evaluate.compare import compare as compare_with_paper

    print(compare_with_paper(folders, output), end="")


def init(argv: list[str]) -> None:
    """`solopo init`: what a clone has and an install lacks."""
    if not argv or "-h" in argv or "--help" in argv:
        print(INIT_USAGE)
        return
    folder, *further = argv
    if further or "=" in folder:
        raise CommandError(f"'{(further or argv)[0]}' is not understood: write one folder, such as my_solopo.")
    from .starter import init as write

    print(write(folder))


def tiny_model(argv: list[str]) -> None:
    """`solopo tiny-model`: a random model whose tokenizer knows the demo corpus."""
    if not argv or "-h" in argv or "--help" in argv:
        print(TINY_USAGE)
        return
    output, *options = argv
    family = FAMILIES[0]
    for option in options:
        key, _, value = option.partition("=")
        if key != "family":
            raise CommandError(f"'{option}' is not understood: write family=qwen2 or family=llama after the folder.")
        family = value
    if family not in FAMILIES:
        raise CommandError(f"family is '{family}': write {' or '.join(FAMILIES)}.")
    if "=" in output or os.path.isfile(output):
        raise CommandError(f"'{output}' is no folder to write to: give the output folder first.")
    texts = demo_texts()
    from .model.tiny import make_tiny_model

    make_tiny_model(output, family=family, texts=texts)
    print(f"Wrote a tiny {family} model to {output}.")


def demo_texts() -> list[str]:
    """The different paragraphs of the demo corpus, in the file's order."""
    from .common.json_records import read_json_records
    from .starter import root

    records = [record for _, record in read_json_records(root() / "data" / "demo_corpus.jsonl")]
    paragraphs = [paragraph for record in records for paragraph in record["paragraphs"]]
    return list(dict.fromkeys(f"{paragraph['title']}\n{paragraph['paragraph_text']}" for paragraph in paragraphs))


CONSTRUCTION = ("build", "synthesize", "sample", "select", "report")
COMMANDS = {name: partial(construction_step, name) for name in CONSTRUCTION} | {
    "init": init,
    "eval": evaluation,
    "compare": compare,
    "tiny-model": tiny_model,
}

if __name__ == "__main__":
    sys.exit(main())
