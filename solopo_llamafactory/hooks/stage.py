"""How `stage: solopo` starts and resumes inside the host's own training function.

The host's `_training_function` sets up callbacks and then picks a workflow in a chain of ifs on the stage's name. Our
stage goes through it under the name `dpo`, whose workflow has the same signature, and takes its own name again in
`run_dpo`: so whatever the host does around a stage happens to ours as well, and nothing of it is copied here.
"""

from functools import wraps

from llamafactory.extras.misc import is_env_enabled
from llamafactory.hparams import parser

from .. import STAGE
from .arguments import check_run
from .checkpoints import check_complete, last_complete_checkpoint
from .join import asks_for_solopo
from .unknown_keys import refuse_unknown_keys


# What the last parsed arguments asked for; the host looks for checkpoints right after parsing.
_parsed_solopo = False


def check_parsed_arguments(parse_train_args):
    """Around `parser._parse_train_args`: refuse combinations before the host goes on."""

    @wraps(parse_train_args)
    def wrapper(args=None):
        global _parsed_solopo
        if asks_for_solopo(args) and not is_env_enabled("ALLOW_EXTRA_ARGS"):  # the host's own switch
            refuse_unknown_keys(args, parser._TRAIN_ARGS)
        parsed = parse_train_args(args)
        _parsed_solopo = _ours(parsed) is not None
        if _parsed_solopo:
            model_args, data_args, training_args, finetuning_args, _ = parsed
            check_run(model_args, data_args, training_args, finetuning_args)
            _resolve_checkpoint(training_args)
        return parsed

    return wrapper


def resume_from_complete(get_last_checkpoint):
    """Around `parser.get_last_checkpoint`: for our stage, a checkpoint counts only when it is complete."""

    @wraps(get_last_checkpoint)
    def wrapper(folder):
        return last_complete_checkpoint(folder) if _parsed_solopo else get_last_checkpoint(folder)

    return wrapper


def travel_as_dpo(get_train_args):
    """Around `tuner.get_train_args`: our stage takes the host's dpo branch."""

    @wraps(get_train_args)
    def wrapper(args=None):
        parsed = get_train_args(args)
        finetuning_args = _ours(parsed)
        if finetuning_args is not None:
            finetuning_args.stage = "dpo"
        return parsed

    return wrapper


def dispatch(run_dpo):
    """Around `tuner.run_dpo`: our workflow for our stage."""

    @wraps(run_dpo)
    def wrapper(*args, **kwargs):
        finetuning_args = _ours([*args, *kwargs.values()])
        if finetuning_args is None:
            return run_dpo(*args, **kwargs)

        from ..train.workflow import run_solopo

        finetuning_args.stage = STAGE
        return run_solopo(*args, **kwargs)

    return wrapper


def ray_worker(worker: type) -> type:
    """In place of `tuner.Worker`: a class whose import places the seams in the Ray worker's own process."""
    from .ray_worker import Worker

    return Worker


def _ours(arguments):
    """The fine-tuning arguments among `arguments` if they are our stage's."""
    return next((each for each in arguments if getattr(each, "use_solopo", False)), None)


def _resolve_checkpoint(training_args) -> None:
    wanted = training_args.resume_from_checkpoint
    if str(wanted).lower() == "true":
        training_args.resume_from_checkpoint = last_complete_checkpoint(training_args.output_dir)
        if training_args.resume_from_checkpoint is None:
            raise ValueError(
                f"`resume_from_checkpoint: true` finds no complete checkpoint in {training_args.output_dir}: "
                "remove the argument to start anew."
            )
    elif wanted and str(wanted).lower() != "false":
        check_complete(wanted)
