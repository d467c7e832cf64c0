"""What only a GPU shows; skipped elsewhere. Commands of their own: Liger's kernels replace transformers' classes for good."""

import pytest
import torch

from conftest import last_words, launch, read_logs


pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
KEYS = ("loss", "grad_norm", "loss/po", "loss/solo_ra", "logps/chosen", "logps/chosen_long")


@pytest.fixture
def train_on_gpu(arguments, request, tmp_path):
    def run(name: str, family: str, **overrides) -> list[dict]:
        model = {"model_name_or_path": request.getfixturevalue(f"tiny_{family}"), "use_cpu": False}
        args = arguments(**{**model, "output_dir": str(tmp_path / name), **overrides})
        result = launch(args, tmp_path / f"{name}-launch", CUDA_VISIBLE_DEVICES="0")
        assert result.returncode == 0, last_words(result)
        assert "Using padded batches" not in result.stdout
        assert ("Liger kernel" in result.stdout + result.stderr) == args.get("enable_liger_kernel", False)
        return read_logs(args["output_dir"])

    return run


def numbers(logs: list[dict]) -> list[float]:
    return [log[key] for log in logs for key in KEYS]


@pytest.mark.parametrize("loss", ["orpo", "sigmoid"])
@pytest.mark.parametrize("family", ["qwen2", "llama"])
def test_liger_kernels_change_nothing(family, loss, train_on_gpu):
    pytest.importorskip("liger_kernel")
    plain = train_on_gpu("plain", family, pref_loss=loss)
    liger = train_on_gpu("liger", family, pref_loss=loss, enable_liger_kernel=True)
    assert numbers(liger) == pytest.approx(numbers(plain), rel=1e-3, abs=1e-5)


def test_half_precision_is_near(train_on_gpu):
    """bfloat16 has 8 bits, and its attention kernels differ from float32's."""
    exact = train_on_gpu("float32", "qwen2")
    half = train_on_gpu("bfloat16", "qwen2", bf16=True)
    assert [log["loss"] for log in half] == pytest.approx([log["loss"] for log in exact], rel=2e-2)
