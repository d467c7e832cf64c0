"""What only a GPU shows; skipped elsewhere. Commands of their own: Liger's kernels replace transformers' classes for good."""

import pytest
import torch

from tests.helpers.runs import last_words, launch, read_logs


pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
KEYS = ("loss", "grad_norm", "loss/po", "loss/solo_ra", "logps/chosen", "logps/chosen_long")


@pytest.fixture
def train_on_gpu(arguments, request, tmp_path):
    def run(name: str, family: str, **overrides) -> list[dict]:
        model = {"model_name_or_path": request.getfixturevalue(f"tiny_{family}"), "use_cpu": False}
        model["template"] = {"qwen2": "qwen", "llama": "llama3"}[family]
        args = arguments(**{**model, "output_dir": str(tmp_path / name), **overrides})
        result = launch(args, tmp_path / f"{name}-launch", CUDA_VISIBLE_DEVICES="0")
        assert result.returncode == 0, last_words(result)
        assert "Using padded batches" not in result.stdout
        assert ("Liger kernel" in result.stdout + result.stderr) == args.get("enable_liger_kernel", False)
        return read_logs(args["output_dir"])

    return run


def numbers(logs: list[dict]) -> list[float]:
    return [log[key] for log in logs for key in KEYS]


@pytest.mark.parametrize("loss", ["orpo", "simpo"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_liger_kernels_change_nothing(family, loss, train_on_gpu):
    """DPO is left out: its first rewards are 0, where rounding decides the sign of the alignment's gradient."""
    pytest.importorskip("liger_kernel")
    plain = train_on_gpu("plain", family, pref_loss=loss)
    liger = train_on_gpu("liger", family, pref_loss=loss, enable_liger_kernel=True)
    assert numbers(liger) == pytest.approx(numbers(plain), rel=1e-3, abs=1e-5)
