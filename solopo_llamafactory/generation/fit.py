"""Whether a model can be asked over `Slots`, found by running it rather than by its name."""

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from ..model.probe import HARMLESS, check_rope, further_argument, run_on_meta, trial_obstacle
from .errors import UnfitError
from .passes import fill, grow
from .slots import Slots


CHECKED_PROMPT, CHECKED_ANSWER = 12, 3  # tokens
# Of the logits' deviation. In half precision two ways to compute them differ by a few hundredths; a wrong position or a
# lost key by more than a tenth.
TOLERANCE = 0.1


@dataclass(frozen=True)
class Fit:
    """What a model needs room for: bytes of one token's keys and values in all layers, and entries of its logits."""

    token_bytes: int
    vocabulary: int


def fit_of(model: PreTrainedModel, longest: int) -> Fit:
    """Looks at a model.

    Args:
        model: below any adapter.
        longest: tokens of the longest prompt with its answer.

    Raises:
        UnfitError: when the model cannot be asked over `Slots`.
    """
    devices = {parameter.device.type for parameter in model.parameters()}
    if not devices <= {"cuda", "cpu"} or len(devices) > 1:
        raise UnfitError(f"its weights are on {' and '.join(sorted(devices))}")
    try:
        check_rope(model.config, longest)
    except ValueError:
        raise UnfitError("its RoPE changes with the longest sequence of a batch") from None
    try:
        trial = run_on_meta(model)
    except Exception as err:  # whatever a foreign model raises here
        said = str(err).splitlines()[0] if str(err) else ""
        raise UnfitError(f"a trial forward pass failed ({type(err).__name__}: {said})") from None
    if (obstacle := trial_obstacle(trial, model)) is not None:
        raise UnfitError(obstacle)
    for call in trial.attention_calls:
        if getattr(call["attention_mask"], "local_size", None) != call.get("sliding_window"):
            raise UnfitError("its attention's window is no plain sliding one")
        if extra := further_argument(call, HARMLESS | {"softcap"}):
            raise UnfitError(f"its attention uses `{extra}`")
    try:
        difference = difference_to_plain(model)
    except RuntimeError as err:
        raise UnfitError(f"its layers refuse the slots ({str(err).splitlines()[0]})") from None
    if not difference < TOLERANCE:
        raise UnfitError(f"its logits differ from those of plain forward passes by {difference:.0%}")
    numbers = sum(heads * size for states in trial.states for _, heads, _, size in states)
    return Fit(numbers * model.dtype.itemsize, trial.logits.shape[-1])


@torch.inference_mode()
def difference_to_plain(model: PreTrainedModel) -> float:
    """How far the logits of a short answer over `Slots` are from those of one plain forward pass, in its deviations."""
    device = next(model.parameters()).device
    length = CHECKED_PROMPT + CHECKED_ANSWER
    vocabulary = model.get_input_embeddings().weight.shape[0]
    tokens = torch.randint(vocabulary, (1, length), generator=torch.Generator().manual_seed(0)).to(device)
    expected = model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False).logits[0].float()
    slots = Slots(1, 1, CHECKED_PROMPT - 1, CHECKED_ANSWER + 1, device)
    found = []
    fill(model, slots, torch.zeros(1, dtype=torch.long, device=device), tokens[:, : CHECKED_PROMPT - 1])
    slots.start_R.fill_(CHECKED_PROMPT - 1)
    for position in range(CHECKED_PROMPT - 1, length):
        found.append(grow(model, slots, tokens[:, position])[0].float())
        slots.step_R.add_(1)
    expected = expected[CHECKED_PROMPT - 1 :]
    return ((torch.stack(found) - expected).std() / expected.std()).item()
