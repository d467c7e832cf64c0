"""Shared fixtures: tiny models, small data and the host's training function, run in process."""

import atexit
import json
import os
import random
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from tests.helpers.runs import WORDS, make_rows, read_logs, run_host, write_dataset


# Of their own: reference log-probs are kept there.
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="solopo-tests-")
atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)
if "PYTEST_XDIST_WORKER" not in os.environ:
    # DeepSpeed compiles here, once in a run of the tests. A compilation that was killed leaves a lock behind, for which all
    # later ones in the same folder wait for ever.
    os.environ["TORCH_EXTENSIONS_DIR"] = tempfile.mkdtemp(prefix="solopo-tests-extensions-")
    atexit.register(shutil.rmtree, os.environ["TORCH_EXTENSIONS_DIR"], ignore_errors=True)
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: more threads only wait for each other
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_DISABLED", "true")

# Where the tests run in the background of a script, they and all that they start ignore Ctrl-C otherwise.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tiny_qwen2(tmp_path_factory) -> str:
    """Folder of a tiny Qwen2 model with its tokenizer."""
    return _tiny_model(tmp_path_factory, "qwen2")


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory) -> str:
    """Folder of a tiny Llama model with its tokenizer."""
    return _tiny_model(tmp_path_factory, "llama")


def _tiny_model(tmp_path_factory, family: str) -> str:
    from solopo_llamafactory.model.tiny import make_tiny_model

    texts = [" ".join(random.Random(seed).choices(WORDS, k=50)) for seed in range(20)]
    return make_tiny_model(str(tmp_path_factory.mktemp(family)), family, texts, hidden_size=32)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> Path:
    """A dataset folder with 16 examples."""
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, make_rows(16))
    return folder


@pytest.fixture
def arguments(tmp_path, data_dir, tiny_qwen2):
    """Arguments of a short CPU run, to be changed by keyword."""

    def build(**overrides) -> dict:
        return {
            "stage": "solopo",
            "model_name_or_path": tiny_qwen2,
            "template": "qwen",
            "finetuning_type": "full",
            "do_train": True,
            "dataset": "pairs",
            "dataset_dir": str(data_dir),
            "cutoff_len": 512,
            "overwrite_cache": True,
            "pref_loss": "orpo",
            "output_dir": str(tmp_path / "output"),
            "per_device_train_batch_size": 2,
            "learning_rate": 1e-3,
            "max_steps": 3,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": True,
            "disable_tqdm": True,
            **overrides,
        }

    return build


@pytest.fixture
def train(arguments):
    """Run the host's training function in this process and return what it logged, a dict a log."""

    def run(**overrides) -> list[dict]:
        args = arguments(**overrides)
        run_host(args)
        return read_logs(args["output_dir"])

    return run


@pytest.fixture
def load(arguments):
    """Parse arguments and load their data as the workflow does: (dataset module, reports)."""
    from llamafactory.hparams import get_train_args

    from solopo_llamafactory.data.loading import load_data
    from solopo_llamafactory.data.sequences import sequences_of
    from solopo_llamafactory.host.imports import get_template_and_fix_tokenizer, load_tokenizer

    def run(**overrides):
        model_args, data_args, training_args, finetuning_args, _ = get_train_args(arguments(**overrides))
        tokenizer_module = load_tokenizer(model_args)
        template = get_template_and_fix_tokenizer(tokenizer_module["tokenizer"], data_args)
        sequences = sequences_of(finetuning_args.solopo_view, finetuning_args.solopo_align)
        return load_data(
            template, model_args, data_args, training_args, finetuning_args, sequences, **tokenizer_module
        )

    return run


@pytest.fixture
def refused(train, tmp_path):
    """Assert that a run ends with one sentence that has the words, before it makes its output directory."""

    def check(words: str, **overrides) -> None:
        with pytest.raises(ValueError) as error:
            train(**overrides)
        assert words in str(error.value), error.value
        assert "\n" not in str(error.value)
        assert not (tmp_path / "output").exists()

    return check


@pytest.fixture(scope="session")
def qwen_tokenizer(tmp_path_factory) -> str:
    """Folder of a Qwen2 tokenizer (with a tiny model)."""
    return _demo_model(tmp_path_factory, "qwen2")


@pytest.fixture(scope="session")
def llama_tokenizer(tmp_path_factory) -> str:
    """Folder of a Llama tokenizer (with a tiny model)."""
    return _demo_model(tmp_path_factory, "llama")


def _demo_model(tmp_path_factory, family: str) -> str:
    from solopo_llamafactory.model.tiny import make_tiny_model
    from tests.helpers.questions import demo_questions

    texts = [doc.text for question in demo_questions() for doc in (*question.evidence, *question.distractors)]
    return make_tiny_model(str(tmp_path_factory.mktemp(family)), family, dict.fromkeys(texts), hidden_size=32)


@pytest.fixture
def server():
    """A made-up server with OpenAI's interface; asking it takes the client's package."""
    pytest.importorskip("openai")
    from tests.helpers.servers import FakeServer

    fake = FakeServer()
    yield fake
    fake.close()


@pytest.fixture(scope="session")
def easy_xquad(tmp_path_factory) -> str:
    """XQuAD's questions (CC BY-SA 4.0), to each of which the letter e is a further answer: a random model is right at times."""
    from tests.helpers.questions import XQUAD

    data = json.loads(XQUAD.read_text(encoding="utf-8"))
    for article in data["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                question["answers"].append({"text": "e", "answer_start": paragraph["context"].index("e")})
    path = tmp_path_factory.mktemp("xquad") / "easy.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="session")
def guessing_model(qwen_tokenizer, tmp_path_factory) -> str:
    """A tiny model that has learnt to answer everything with one of four words, two of them with the letter e."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(qwen_tokenizer)
    model = AutoModelForCausalLM.from_pretrained(qwen_tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rng = random.Random(0)
    turn = tokenizer.encode("<|im_end|>\n<|im_start|>assistant\n")
    for _ in range(150):
        prompt = [rng.randrange(len(tokenizer)) for _ in range(rng.randint(5, 60))] + turn
        answer = tokenizer.encode(rng.choice(("Esk", "Pelm", "Orm", "Tarn")) + "<|im_end|>")
        tokens, labels = torch.tensor([prompt + answer]), torch.tensor([[-100] * len(prompt) + answer])
        model(input_ids=tokens, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = str(tmp_path_factory.mktemp("guessing"))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
