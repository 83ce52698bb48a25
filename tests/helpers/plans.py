"""What `fdt plan` reads of a command line."""

from fdt.cli.plan.settings import RunSettings, read_settings


def settings(folder: str, *options: str) -> RunSettings:
    """Those of a run on the model in a folder."""
    return read_settings([f"--model.base={folder}", *options])
