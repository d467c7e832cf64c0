"""Run LLaMA-Factory's own tests with this package switched on and off, and compare them test by test.

    pip download --no-deps --no-binary llamafactory llamafactory==0.9.5 && tar xzf llamafactory-0.9.5.tar.gz
    python tests/helpers/host_suite.py llamafactory-0.9.5                   # or some: ... llamafactory-0.9.5 tests/data

Without a network: a tiny model of our own stands in for the tests' tiny Llama, and tests that need another model or a
data set from the hub fail on both sides, which is said. Exit status 1: a difference, or nothing passed.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from solopo_llamafactory.model.tiny import make_tiny_model


SIDES = {"off": "1", "on": "0"}  # name -> SOLOPO_DISABLE
PROBE = "import sys, torch; print(any(getattr(finder, 'is_solopo_hook', False) for finder in sys.meta_path))"


def run_side(tree: Path, folder: Path, tests: list[str], environment: dict[str, str]) -> dict[str, str]:
    """Outcome of each test, "passed", "skipped" or the kind of its failure; each side has its own copy of the tree."""
    for part in ("tests", "data", "examples"):
        shutil.copytree(tree / part, folder / part)
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "--import-mode=importlib", "-p", "no:cacheprovider"]
    subprocess.run(
        [*command, "--timeout=300", f"--junitxml={report}", *tests],
        cwd=folder,
        env=environment,
        stdout=sys.stderr,
        check=False,
    )
    if not report.is_file():
        sys.exit("pytest wrote no report: see its output above.")
    outcomes = {}
    for case in ElementTree.parse(report).iter("testcase"):
        problem = next((each for each in case if each.tag in ("failure", "error", "skipped")), None)
        outcome = "passed"
        if problem is not None:
            kind = problem.get("message", "").strip().partition("\n")[0].partition(": ")[0]
            outcome = "skipped" if problem.tag == "skipped" else f"{problem.tag} {kind}"
        outcomes[f"{case.get('classname')}::{case.get('name')}"] = outcome
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path, help="LLaMA-Factory's unpacked source package, with its tests/ and data/")
    parser.add_argument("tests", nargs="*", default=["tests"], help="pytest arguments relative to it")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        sides = {}
        for name, disable in SIDES.items():
            environment = os.environ | {
                "SOLOPO_DISABLE": disable,
                "TINY_LLAMA3": str(Path(folder, "tiny")),
                "HF_HUB_OFFLINE": "1",
                "WANDB_DISABLED": "true",
                "CUDA_VISIBLE_DEVICES": "",
            }
            if not sides:
                make_tiny_model(environment["TINY_LLAMA3"], "llama")
                # The tests' own tiny Llama is in half precision, which some of them ask for.
                model = AutoModelForCausalLM.from_pretrained(environment["TINY_LLAMA3"], dtype=torch.float16)
                model.save_pretrained(environment["TINY_LLAMA3"])
            hooked = subprocess.run(
                [sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, check=True
            )
            if hooked.stdout.split()[-1] != str(name == "on"):
                sys.exit(f"With SOLOPO_DISABLE={disable} the hook should be {name}: is the package installed?")
            sides[name] = run_side(arguments.tree, Path(folder, name), arguments.tests, environment)

    off, on = sides.values()
    print(f"{'package':<10}{'tests':>7}   outcomes")
    for name, outcomes in sides.items():
        counts = Counter(outcome.split()[0] for outcome in outcomes.values())
        print(f"{name:<10}{len(outcomes):>7}   {', '.join(f'{n} {word}' for word, n in counts.most_common())}")
    unable = sorted(test for test in off if off[test].startswith(("failure", "error")) and off[test] == on.get(test))
    print(f"\n{len(unable)} fail alike on both sides" + (":" if unable else "."))
    for test in unable:
        print(f"  {test}: {off[test]}")
    different = sorted(test for test in off.keys() | on.keys() if off.get(test) != on.get(test))
    print(f"\n{len(different)} differ" + (":" if different else "."))
    for test in different:
        print(f"  {test}: {off.get(test, 'not run')} without the package, {on.get(test, 'not run')} with it")
    return 1 if different or "passed" not in on.values() else 0


if __name__ == "__main__":
    sys.exit(main())
