"""Every LLaMA-Factory name that the rest of this package uses, imported in one place (heavy: import it late)."""

from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
from llamafactory.data.converter import DatasetConverter
from llamafactory.data.parser import DatasetAttr, get_dataset_list
from llamafactory.data.processor.processor_utils import DatasetProcessor
from llamafactory.data.template import TEMPLATES
from llamafactory.extras.constants import AUDIO_PLACEHOLDER, IMAGE_PLACEHOLDER, VIDEO_PLACEHOLDER
from llamafactory.extras.misc import has_tokenized_data
from llamafactory.extras.ploting import plot_loss
from llamafactory.hparams import DataArguments, ModelArguments, TrainingArguments
from llamafactory.model import load_config, load_model, load_tokenizer
from llamafactory.train.dpo.trainer import CustomDPOTrainer
from llamafactory.train.trainer_utils import create_modelcard_and_push, create_ref_model


# What a multimodal template replaces by the tokens of an image, a video or a recording.
MEDIA_PLACEHOLDERS = (IMAGE_PLACEHOLDER, VIDEO_PLACEHOLDER, AUDIO_PLACEHOLDER)

__all__ = [
    "MEDIA_PLACEHOLDERS",
    "CustomDPOTrainer",
    "DataArguments",
    "DatasetAttr",
    "DatasetConverter",
    "DatasetProcessor",
    "ModelArguments",
    "TEMPLATES",
    "TrainingArguments",
    "create_modelcard_and_push",
    "create_ref_model",
    "get_dataset",
    "get_dataset_list",
    "get_template_and_fix_tokenizer",
    "has_tokenized_data",
    "load_config",
    "load_model",
    "load_tokenizer",
    "plot_loss",
]
