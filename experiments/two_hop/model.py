"""The miniature's model: a tokenizer of whole words and a Qwen2 of 0.4 M parameters that starts near retrieval."""

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from solopo_llamafactory.questions.sources.two_hop import CITIES, CITY_RELATIONS, PEOPLE, PERSON_RELATIONS
from solopo_llamafactory.questions.wording import WORDINGS


PAD, USER_TURN, END, UNKNOWN = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<unk>"
# Words that begin an answer and join its hops, drawn at random: an answer's mean log-prob then stays away from 0, where
# ORPO's log-odds would saturate.
LEADS, JOINTS = ("So", "Well", "Look", "Now"), ("then", "and", "next")
ROPE_THETA = 1e5
MAX_POSITIONS = 8192


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A token a word. Of the builder's prompt it reads the facts and the question; the rest is the same everywhere."""
    words = ["user", "assistant", "Question:", "."]
    words += [*LEADS, *JOINTS, *PERSON_RELATIONS, *CITY_RELATIONS, *PEOPLE, *CITIES]
    vocabulary = {word: i for i, word in enumerate([PAD, USER_TURN, END, UNKNOWN, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    cot = WORDINGS["cot"]
    skipped = "|".join(text.replace(".", r"\.") for text in (cot.introduction, cot.instruction))
    tokenizer.normalizer = normalizers.Replace(Regex(rf"Document \d+:|{skipped}"), "")
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        additional_special_tokens=[USER_TURN],
        model_max_length=MAX_POSITIONS,
    )


def make_model(tokenizer: PreTrainedTokenizerFast, hidden_size: int, num_layers: int, seed: int) -> Qwen2ForCausalLM:
    """A fresh model. Float32."""
    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=hidden_size,
            intermediate_size=2 * hidden_size,
            num_hidden_layers=num_layers,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=MAX_POSITIONS,
            rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            initializer_range=hidden_size**-0.5,
        )
    )
    start_near_retrieval(model)
    return model


@torch.no_grad()
def start_near_retrieval(
    model: Qwen2ForCausalLM, look_back: tuple[int, ...] = (1, 2, 3), sharpness: float = 5.0
) -> None:
    """Set up what takes long to emerge by itself: first-layer heads that look at the token 1, 2 or 3 places back, and a
    second layer whose keys compare like with like.

    A head whose query bias is b and whose key bias is b turned by RoPE's angles of `o` places scores every position by its
    distance alone, with the maximum at distance `o`; `sharpness` is the score's lead over the average distance.
    """
    config = model.config
    size = config.hidden_size // config.num_attention_heads
    for layer in model.model.layers:  # branches small beside the embeddings
        layer.self_attn.o_proj.weight.mul_(0.1)
        layer.mlp.down_proj.weight.mul_(0.1)
    angles = ROPE_THETA ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    scale = (sharpness * size**0.5 / (1 - angles.cos()).sum()).sqrt()
    first, second = (model.model.layers[i].self_attn for i in (0, 1))
    for head, places in enumerate(look_back):
        rows = slice(head * size, (head + 1) * size)
        first.q_proj.weight[rows] *= 0.1
        first.k_proj.weight[rows] *= 0.1
        ones, zeros = torch.ones_like(angles), torch.zeros_like(angles)
        first.q_proj.bias[rows] = (scale * torch.cat([ones, zeros])).float()
        first.k_proj.bias[rows] = (scale * torch.cat([(angles * places).cos(), (angles * places).sin()])).float()
    second.k_proj.weight.copy_(second.q_proj.weight)
