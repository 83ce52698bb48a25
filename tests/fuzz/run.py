"""`make fuzz`: each target in a process of its own, led by coverage, for its share of the time.

What is new goes into a folder beside the kept corpus, and what fails is left there as `crash-…`, with the command that
repeats it: `python -m tests.fuzz.run TARGET FILE`.
"""

import subprocess
import sys
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
SECONDS = 600
LONGEST_INPUT = 4096
LONGEST_RUN = 10
"""Seconds after which one input counts as a hang."""
MOST_MEMORY = 4096
"""MiB."""


def fuzz(name: str, arguments: list[str]) -> None:
    """One target in this process; ends it."""
    import atheris

    with atheris.instrument_imports(include=["feedback", "fdt", "yaml", "json"]):
        from tests.fuzz.targets import TARGETS
    TARGETS[name](b"")  # what is imported at the first call takes longer than an input may
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name])
    atheris.Fuzz()


def main(arguments: list[str]) -> int:
    """All targets one after the other, or one with libFuzzer's own arguments; 1 where one failed."""
    if arguments and not arguments[0].isdigit():
        fuzz(arguments[0], arguments[1:])
        return 0
    seconds = int(arguments[0]) if arguments else SECONDS
    names = sorted(folder.name for folder in CORPUS.iterdir() if folder.is_dir())
    status = 0
    for name in names:
        found = Path("runs", "fuzz", name)
        found.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tests.fuzz.run", name, str(found), str(CORPUS / name)]
        command += [f"-max_total_time={seconds // len(names)}", f"-max_len={LONGEST_INPUT}", f"-timeout={LONGEST_RUN}"]
        command += [
            f"-rss_limit_mb={MOST_MEMORY}",
            f"-artifact_prefix={found}/",
            "-print_final_stats=1",
            "-verbosity=0",
        ]
        print(f"fuzz: {name}, {seconds // len(names)} s", flush=True)
        status |= int(subprocess.run(command, check=False).returncode != 0)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
