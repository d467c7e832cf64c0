"""What this package calls of LLaMA-Factory. No other room but `hooks` imports the host."""

# Before any other module of the host: its trainers' library looks for optional packages when it is first imported, and
# finds ones that are not there unless the host's parser was imported first.
import llamafactory.hparams  # noqa: F401
