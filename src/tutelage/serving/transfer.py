"""Ways in which a server gets the weights of a model in this process."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, final, runtime_checkable

from torch import Tensor

from tutelage.serving.control import EXTENSION, Control


@runtime_checkable
class Weights(Protocol):
    """A model whose weights can be handed over. An adapter is merged into them."""

    def save(self, folder: Path) -> None:
        """Write them in Hugging Face format."""
        ...

    def checkpoint_tensors(self) -> Mapping[str, Tensor]:
        """The tensors that `save` writes, by the names that it gives them."""
        ...


@runtime_checkable
class Transfer(Protocol):
    """One way to one server."""

    def give(self, model: Weights) -> None:
        """Have the server compute with the weights of a model, and with nothing that older ones computed.

        Raises:
            ServerError: It does not; what it computes with is unknown.
        """
        ...

    @property
    def remedy(self) -> str:
        """What to look at where the server says that it took the weights and computes with others."""
        ...


@final
class ByFolder:
    """The weights are saved, and the server reads them."""

    def __init__(self, control: Control, folder: Path) -> None:
        """The server must see the folder under the same path."""
        self._control, self._folder = control, folder

    def give(self, model: Weights) -> None:
        """See `Transfer.give`."""
        model.save(self._folder)
        self._control.load(self._folder)

    @property
    def remedy(self) -> str:
        """See `Transfer.remedy`."""
        if self._control.extended:
            return (
                "Does the server read the same folder, and serve the student's architecture? Is its type float16 or quantised?"
            )
        return (
            "With tied embeddings on a CPU the server keeps a packed copy of the old head: start it with "
            f"--worker-extension-cls {EXTENSION} and this package in its PYTHONPATH. Otherwise check that it reads the folder "
            f"{str(self._folder)!r} (--sampler.folder)."
        )
