"""What is measured: a cell is one run of its own, a suite is a list of cells, the most telling ones first."""

import dataclasses
from dataclasses import dataclass
from typing import Any


# Of the models' published configurations. `tiny` is for trials on a CPU.
SHAPES: dict[str, dict[str, Any]] = {
    "qwen2.5-7b": {
        "model_type": "qwen2",
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "rope_theta": 1e6,
    },
    "llama-3.1-8b": {
        "model_type": "llama",
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "rope_theta": 5e5,
    },
    "smollm2-135m": {
        "model_type": "llama",
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "rope_theta": 1e5,
    },
    "tiny": {
        "model_type": "qwen2",
        "vocab_size": 2048,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rope_theta": 1e4,
    },
}
TINY_FACTOR = 64  # a tiny cell's lengths are those of the cell it stands for, divided by this
SHORT_PROMPT, ANSWER = 1100, 200  # tokens; an answer's last one ends it
JITTER = 0.03  # prompts are shorter than asked for by up to this part
UNEVEN = {"jitter": 0.9, "steps": 16}
SUITES = ("forward_backward", "whole_step", "longest")
METHODS = {"host": "host's dpo stage, long", "trl": "TRL, long", "long": "long view", "solopo": "solopo"}


@dataclass(frozen=True)
class Cell:
    """One run in a process (or, on several GPUs, a group of processes) of its own.

    Args:
        suite: one of `SUITES`. `forward_backward` times that alone, the others the whole optimizer step.
        method: `host` (LLaMA-Factory's dpo stage on the long pair), `trl` (TRL's trainers on it, in an environment of their
            own), `long` (the long pair with our shared prompt), `solopo`, or `ceiling` (a plain matrix product of size
            `length`).
        length: tokens of a long prompt with its answer, at most.
        variant: what the table calls the overrides.
        overrides: arguments of the run beyond the common ones, as (name, value) pairs.
        gpus: processes, one GPU each.
        accumulation: micro-batches of one example a process in an optimizer step.
        steps: optimizer steps, of which the first `warmup` do not count.
        multiple: lengths are cut to a multiple of this. With 8 the host's rows need no padding.
        answer: tokens of an answer.
        jitter: of the long prompts.
    """

    suite: str
    method: str
    length: int
    shape: str = "qwen2.5-7b"
    loss: str = "orpo"
    variant: str = "all layers"
    overrides: tuple[tuple[str, Any], ...] = ()
    gpus: int = 1
    accumulation: int = 1
    finetuning: str = "full"
    steps: int = 7
    warmup: int = 3
    multiple: int = 1
    answer: int = ANSWER
    jitter: float = JITTER

    @property
    def name(self) -> str:
        """Unique within a suite; `--only` looks for its text in here."""
        if self.method == "ceiling":
            return f"{self.shape} ceiling"
        name = f"{self.shape} {self.loss} {self.finetuning} {self.length} {self.variant} {self.method}"
        return f"{name} x{self.accumulation}" if self.accumulation > 1 else name

    @property
    def on_cpu(self) -> bool:
        return self.shape == "tiny"

    @property
    def uses_deepspeed(self) -> bool:
        return self.suite != "forward_backward" and not self.on_cpu

    @property
    def has_live_reference(self) -> bool:
        """Whether the reference model runs in every step."""
        return self.loss == "sigmoid" and (
            self.method == "host" or dict(self.overrides).get("solopo_precompute_ref") is False
        )

    def as_tiny(self) -> "Cell":
        """The cell's stand-in for a CPU. Overrides stay out: they are about a GPU's memory and kernels."""
        return dataclasses.replace(
            self,
            shape="tiny",
            length=self.length // TINY_FACTOR,
            answer=self.answer // TINY_FACTOR,
            overrides=(),
            gpus=1,
            steps=3,
            warmup=1,
        )

    def is_longer_twin_of(self, other: "Cell") -> bool:
        """Whether the two differ in nothing but the length, and this one is the longer."""
        same = {"length": 0, "steps": 0, "warmup": 0}
        return self.length > other.length and dataclasses.replace(self, **same) == dataclasses.replace(other, **same)

    @classmethod
    def of(cls, row: dict[str, Any]) -> "Cell":
        """The cell that a row of the results file belongs to; rows from before a field was there have its default."""
        fields = {field.name: row[field.name] for field in dataclasses.fields(cls) if field.name in row}
        return cls(**fields | {"overrides": tuple((key, value) for key, value in row["overrides"])})


def suite(name: str, gpus: int = 1, tiny: bool = False) -> list[Cell]:
    """The cells of a suite; those of `whole_step` and `longest` run on `gpus` GPUs together."""
    cells = [Cell(name, "ceiling", 8192, variant="matmul", loss="-")]
    if name == "forward_backward":
        cells += forward_backward()
    elif name == "whole_step":
        cells += whole_step(gpus)
    else:
        cells += longest(gpus)
    return list(dict.fromkeys(cell.as_tiny() for cell in cells)) if tiny else cells


def all_layers(shape: str = "qwen2.5-7b", **arguments) -> dict[str, Any]:
    """Our stage with every layer checkpointed, as the host does it."""
    number = SHAPES[shape]["num_hidden_layers"]
    return {"variant": "all layers", **overrides(solopo_checkpoint_layers=number, **arguments)}


def by_need(**arguments) -> dict[str, Any]:
    """Our stage with as few layers checkpointed as memory demands."""
    return {"variant": "by need", **overrides(solopo_checkpoint_layers="auto", **arguments)}


def overrides(**arguments) -> dict[str, Any]:
    return {"overrides": tuple(arguments.items())}


def forward_backward() -> list[Cell]:
    def cell(method: str, length: int = 8192, **fields) -> Cell:
        return Cell("forward_backward", method, length, **fields)

    cached = {"solopo_precompute_ref": True}
    liger = {"enable_liger_kernel": True}
    offloaded = {"variant": "offloading", **overrides(activation_offloading=True)}
    llama = {"shape": "llama-3.1-8b"}
    return [
        cell("host"),
        cell("solopo", **all_layers()),
        cell("solopo", **by_need()),
        cell("long", **all_layers()),
        cell("long", **by_need()),
        cell("host", 16384),
        cell("solopo", 16384, **all_layers()),
        cell("solopo", 16384, **by_need()),
        cell("long", 16384, **all_layers()),
        cell("long", 16384, **by_need()),
        cell("host", loss="sigmoid"),
        cell("solopo", loss="sigmoid", **all_layers(**cached)),
        cell("solopo", loss="sigmoid", **by_need(**cached)),
        cell("solopo", loss="sigmoid", **by_need(solopo_precompute_ref=False) | {"variant": "live reference"}),
        cell("host", variant="no padding", multiple=8),
        cell("host", variant="liger", **overrides(**liger)),
        cell("solopo", **by_need(**liger) | {"variant": "liger"}),
        cell("host", 16384, variant="liger", **overrides(**liger)),
        cell("solopo", 16384, **all_layers(**liger) | {"variant": "liger, all layers"}),
        cell("solopo", 16384, **all_layers(solopo_tiled_mlp=True) | {"variant": "tiled MLP, all layers"}),
        cell("host", 16384, answer=4096, variant="answers of 4096"),
        cell("solopo", 16384, answer=4096, **all_layers() | {"variant": "answers of 4096"}),
        cell("solopo", 32768, **UNEVEN, **by_need() | {"variant": "by need, uneven lengths"}),
        cell("host", loss="simpo"),
        cell("solopo", loss="simpo", **all_layers()),
        cell("solopo", loss="simpo", **by_need()),
        cell("solopo", 32768, loss="sigmoid", finetuning="lora", steps=5, **all_layers(**cached)),
        cell("trl"),
        cell("trl", 16384),
        cell("trl", loss="sigmoid"),
        cell("trl", 16384, loss="sigmoid"),
        cell("trl", loss="simpo"),
        cell("trl", **offloaded),
        cell("trl", loss="sigmoid", **offloaded),
        cell("trl", 16384, loss="sigmoid", **offloaded),
        cell("solopo", 16384, loss="sigmoid", **all_layers(**cached)),
        cell("solopo", 16384, loss="sigmoid", **by_need(**cached)),
        cell("host", **llama),
        cell("solopo", **llama, **all_layers("llama-3.1-8b")),
        cell("solopo", **llama, **by_need()),
    ]


def whole_step(gpus: int) -> list[Cell]:
    def cell(method: str, length: int = 8192, **fields) -> Cell:
        return Cell("whole_step", method, length, gpus=gpus, **fields)

    return [
        cell("host"),
        cell("solopo", **by_need()),
        cell("solopo", **all_layers()),
        cell("long", **by_need()),
        cell("host", accumulation=8, steps=2, warmup=1),
        cell("solopo", accumulation=8, steps=3, warmup=2, **by_need()),
        cell("host", loss="sigmoid"),
        cell("solopo", loss="sigmoid", **by_need(solopo_precompute_ref=True)),
        cell("host", 16384),
        cell("solopo", 16384, **by_need()),
        cell("solopo", 49152, **UNEVEN, **by_need() | {"variant": "by need, uneven lengths"}),
        *(cell(method, 4096, **fields) for method, fields in (("host", {}), ("solopo", by_need()))),
    ]


def longest(gpus: int) -> list[Cell]:
    """Each method's lengths ascend; after the first that runs out of memory the longer ones are left out."""

    def cells(method: str, thousands: tuple[int, ...], **fields) -> list[Cell]:
        fields = {"gpus": gpus, "steps": 2, "warmup": 1, **fields}
        return [Cell("longest", method, 1024 * length, **fields) for length in thousands]

    offload = all_layers(use_unsloth_gc=True, solopo_tiled_mlp=True, enable_liger_kernel=True)
    return [
        *cells("host", (16, 17, 18, 19, 20)),
        # A minute and more a step: one shows that it fits (optimizer states are there from the start).
        *cells("solopo", (128, 192, 224, 256), steps=1, warmup=0, **all_layers()),
        *cells("solopo", (256, 300, 320), steps=1, warmup=0, **offload | {"variant": "offload + tiled MLP"}),
    ]
