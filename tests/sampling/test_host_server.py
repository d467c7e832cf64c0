"""Sampling through LLaMA-Factory's own server, killed in the middle and gone on with."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from solopo_llamafactory.construct.arguments import BuildArguments
from tests.helpers.runs import ROOT, command_environment
from tests.helpers.sampling import finished, ids, write_contexts
from tests.helpers.servers import host_api, run_server, server_arguments


pytest.importorskip("openai")


def run_against(folder: str, url: str, tokenizer: str) -> None:
    """What the killed process runs."""
    run_server(host_arguments(Path(folder), url, tokenizer))


def host_arguments(folder, url: str, tokenizer: str, **changes) -> BuildArguments:
    values = {"tokenizer": tokenizer, "model_name_or_path": "any", "temperature": 0, "max_new_tokens": 32, "n": 3}
    return server_arguments(folder, url, **{**values, **changes})


def test_the_hosts_own_server(tmp_path, qwen_tokenizer):
    folders = [tmp_path / name for name in ("whole", "killed", "sampled")]
    for folder in folders:
        folder.mkdir()
    with host_api(qwen_tokenizer, tmp_path / "api.log") as url:
        whole, killed = (host_arguments(folder, url, qwen_tokenizer) for folder in folders[:2])
        for args in (whole, killed):
            write_contexts(args, 24)
        run_server(whole)
        assert len(ids(whole)) == 24 and all(len(set(map(str, row["samples"]))) == 1 for row in finished(whole))

        code = f"from tests.sampling.test_host_server import run_against as run; run{str(folders[1]), url, qwen_tokenizer}"
        environment = command_environment(PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'tests'}")
        process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment)
        while not killed.samples_path.exists() or killed.samples_path.read_bytes().count(b"\n") < 3:
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kept = ids(killed)
        assert 3 <= len(kept) < 24
        run_server(killed)
        assert ids(killed)[: len(kept)] == kept
        assert sorted(map(str, finished(killed))) == sorted(map(str, finished(whole)))

        sampled = host_arguments(folders[2], url, qwen_tokenizer, temperature=0.85, n=5)
        write_contexts(sampled, 4)
        counts = run_server(sampled)
        assert (counts.finished, counts.failed) == (4, 0)
        texts = [each["text"] for row in finished(sampled) for each in row["samples"]]
        assert len(texts) == 20 and len(set(texts)) > 15
        assert {each["finish"] for row in finished(sampled) for each in row["samples"]} <= {"stop", "length"}
