"""Uploads a run's model card and student to a repository of the Hugging Face Hub."""

from importlib.util import find_spec
from pathlib import Path

from distillab.core.errors import UserError, reason
from distillab.core.output import rank_zero_print
from distillab.core.result import Result

# The result and the config stay here: they name folders of this machine.
FILES = ("README.md", "student.safetensors")
FOLDER = "student/*"  # of a language model


def check_hub() -> None:
    """Raise UserError where the hub's library is missing."""
    if find_spec("huggingface_hub") is None:
        raise UserError(
            'push_to_hub: huggingface_hub is not installed: pip install "distillab[export]", or push_to_hub=null'
        )


def push(result: Result, directory: Path, repository: str) -> None:
    """Upload the card, the student and its exported files; the repository is made, private, where there is none.

    Raises UserError where the hub refuses.
    """
    check_hub()
    from huggingface_hub import HfApi

    hub = HfApi()
    files = [*FILES, *(one.file for one in result.exports), FOLDER]
    try:
        hub.create_repo(repository, private=True, exist_ok=True)
        hub.upload_folder(
            repo_id=repository,
            folder_path=directory,
            allow_patterns=files,
            commit_message=f"{result.student.name}, {result.method} on {result.data.name}",
        )
    except Exception as error:  # of the network, of the hub, or of an account
        mend = "hf auth login, or HF_TOKEN, gives access; push_to_hub=null leaves it out"
        raise UserError(f"push_to_hub={repository}: the hub refuses ({reason(error)}); {mend}") from error
    rank_zero_print(f"uploaded to https://huggingface.co/{repository}", result=True)
