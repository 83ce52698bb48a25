"""What every test starts from: no network, one thread, fixed seeds, and shapes of `objectives` checked at run time."""

import os
import random
import socket

# Before torch is imported: its thread pool and the hub client read these once.
for name, value in {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_DATASETS_OFFLINE": "1",
    "WANDB_MODE": "disabled",
    "MPLBACKEND": "Agg",
    "PIP_NO_INDEX": "1",
}.items():
    os.environ.setdefault(name, value)

import pytest
from hypothesis import settings
from hypothesis.internal.conjecture import providers
from jaxtyping import install_import_hook

# Annotated shapes become assertions, in this process only; must precede the first import of the package.
install_import_hook("objectives", "beartype.beartype")

# The same examples on every run; no deadline, since the machine may be busy.
settings.register_profile("tests", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("tests")
# By default hypothesis also draws constants from the source of whatever is imported, so that a test would get other
# examples after each edit, and by the tests that its worker ran before. `make soak` may: it looks for new faults.
if "FDT_FUZZ" not in os.environ:
    assert callable(providers._get_local_constants), "hypothesis has renamed what gives it constants of our source"
    providers._get_local_constants = lambda: providers._local_constants  # empty, since nothing else fills it

_connect = socket.socket.connect


def _connect_here_only(self: socket.socket, address: object) -> None:
    """Refuses every address outside this machine, so that no test depends on a network by accident."""
    host = address[0] if isinstance(address, tuple) else "localhost"
    if host not in ("localhost", "127.0.0.1", "::1", socket.gethostname()):
        raise OSError(f"tests use no network, but something connects to {address}")
    return _connect(self, address)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", _connect_here_only)


@pytest.fixture(autouse=True)
def _seeds() -> None:
    import numpy
    import torch

    random.seed(0)
    numpy.random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a tiny causal LM with tied head, shared by the whole session: do not write into it."""
    from tests.helpers.tiny import save_model

    return str(save_model(tmp_path_factory.mktemp("models") / "tied"))


@pytest.fixture(scope="session")
def tiny_untied_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same with a head of its own."""
    from tests.helpers.tiny import save_model

    return str(save_model(tmp_path_factory.mktemp("models") / "untied", tied=False))
