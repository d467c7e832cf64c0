"""No code from data, no open doors: what the package's own files may not do."""

import ast
import re

import pytest
import yaml

from tests.helpers.runs import ROOT


CODE = sorted(
    [
        *ROOT.glob("solopo_llamafactory/**/*.py"),
        *ROOT.glob("benchmarks/**/*.py"),
        *ROOT.glob("experiments/**/*.py"),
        ROOT / "setup.py",
    ]
)
RECIPES = sorted(ROOT.glob("recipes/**/*.yaml"))
TEXTS = sorted(path for pattern in ("**/*.md", "recipes/**/*.yaml", "Makefile") for path in ROOT.glob(pattern))
TEXTS = [path for path in TEXTS if not {".venv", "saves", "build"} & set(path.relative_to(ROOT).parts)]

# Module -> what of it runs code from data, or listens on a network; "" is all of it.
UNSAFE_CALLS = {"yaml": ("load", "load_all", "full_load", "unsafe_load"), "torch": ("load",), "numpy": ("load",)}
UNSAFE_CALLS |= {"os": ("system", "popen"), "": ("eval", "exec", "compile", "__import__")}
UNSAFE_MODULES = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "socketserver", "http.server"}
UNSAFE_MODULES |= {"uvicorn", "fastapi", "flask", "xmlrpc"}


def unsafe(source: str) -> list[str]:
    """What a source does that none of ours may do, with its line."""
    found = []
    names = {"np": "numpy"}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found += [
                f"{node.lineno}: {name}"
                for name in modules
                if name in UNSAFE_MODULES or name.split(".")[0] in UNSAFE_MODULES
            ]
        if not isinstance(node, ast.Call):
            continue
        function, keywords = node.func, {keyword.arg: keyword.value for keyword in node.keywords}
        owner = function.value if isinstance(function, ast.Attribute) else None
        module = names.get(owner.id, owner.id) if isinstance(owner, ast.Name) else "" if owner is None else None
        name = getattr(function, "attr", getattr(function, "id", ""))
        safe = ast.unparse(keywords["weights_only"]) == "True" if "weights_only" in keywords else False
        safe |= module == "numpy" and "allow_pickle" not in keywords
        if name in UNSAFE_CALLS.get(module, ()) and not safe:
            found.append(f"{node.lineno}: {ast.unparse(function)}")
        if any(ast.unparse(keywords[key]) != "False" for key in ("shell", "trust_remote_code") if key in keywords):
            found.append(f"{node.lineno}: {ast.unparse(node)}")
        if (name == "bind" and isinstance(node.args[0], ast.Tuple)) or (
            name == "launch" and "server_name" in keywords
        ):
            found.append(f"{node.lineno}: {ast.unparse(function)}")
    return found


def test_the_search_finds_what_it_looks_for():
    wrong = [
        "import pickle",
        "from dill import loads",
        "yaml.load(f)",
        "torch.load(p)",
        "torch.load(p, weights_only=False)",
    ]
    wrong += ["eval(x)", "subprocess.run(x, shell=True)", "f(trust_remote_code=True)", "np.load(p, allow_pickle=True)"]
    wrong += ["import http.server", "server.bind(('', 80))"]
    assert [source for source in wrong if not unsafe(source)] == []
    right = ["yaml.safe_load(f)", "torch.load(p, weights_only=True)", "np.load(p)", "model.eval()", "re.compile(x)"]
    assert [source for source in right if unsafe(source)] == []


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_code_from_data_and_no_listener(path):
    assert unsafe(path.read_text(encoding="utf-8")) == []


def test_recipes_trust_no_remote_code():
    assert RECIPES
    for path in RECIPES:
        assert "trust_remote_code" not in yaml.safe_load(path.read_text()), path


# What starts a server -> what keeps it to this machine; all three listen on every interface by default.
SERVERS = {
    "vllm serve": "--host 127.0.0.1",
    "sglang.launch_server": "--host 127.0.0.1",
    "llamafactory-cli api": "API_HOST=127.0.0.1",
    "llamafactory-cli webui": "GRADIO_SERVER_NAME=127.0.0.1",
    "llamafactory-cli webchat": "GRADIO_SERVER_NAME=127.0.0.1",
}


@pytest.mark.parametrize(
    "path",
    TEXTS,
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_servers_that_a_text_starts_stay_on_this_machine(path):
    text = path.read_text(encoding="utf-8")
    assert "0.0.0.0" not in text
    for command, bound in SERVERS.items():
        for match in re.finditer(re.escape(command), text):
            start, end = text.rfind("\n", 0, match.start()), text.find("\n", match.end())
            assert bound in text[max(start, 0) : end], f"{path}: `{command}` without `{bound}`"


def test_servers_that_a_test_starts_stay_on_this_machine():
    for path in ROOT.glob("tests/**/*.py"):
        source = path.read_text(encoding="utf-8")
        if path.name == "test_security.py":
            continue
        assert "0.0.0.0" not in source, path
        if '"llamafactory-cli", "webui"' in source or '"llamafactory-cli", "api"' in source:
            assert re.search(r"(GRADIO_SERVER_NAME|API_HOST)\W+127\.0\.0\.1", source), path
        for address in re.findall(r"Server\(\((.*?),", source):
            assert address == '"127.0.0.1"', path
