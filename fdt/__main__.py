"""The `fdt` command: finds the verb's module, imports only that one, and prints expected errors as messages."""

import importlib
import sys

from fdt import __version__
from fdt.cli.exit_codes import EXPECTED_ERROR, run_command
from fdt.cli.imports import take_allowed
from fdt.errors import find_nearest

# verb: (module whose main(argv) runs it, whether argv keeps the verb as the module serves several, one line of help)
VERBS = {
    "fit": ("fdt.cli.run.main", True, "train on a feedback file, on its prompts, or both"),
    "validate": ("fdt.cli.run.main", True, "answer held-out prompts, score the answers, print the table"),
    "test": ("fdt.cli.run.main", True, "the same on the test split, from a checkpoint"),
    "predict": ("fdt.cli.run.main", True, "write prompt, answer, log-probability and score as JSON lines"),
    "export": ("fdt.cli.export", False, "turn a checkpoint into an adapter and a merged model folder"),
    "report": ("fdt.report", True, "write report.html, table and figures of a run folder"),
    "watch": ("fdt.report.watch", False, "serve that page on this machine while runs train"),
    "compare": ("fdt.report", True, "set several run folders side by side"),
    "bench": ("fdt.bench", False, "measure what each signal teaches, on small worlds"),
    "plan": ("fdt.cli.plan.main", False, "memory, traffic and time of a run, before it is started"),
    "configs": ("fdt.resources", False, "list the shipped configs, or print one"),
    "model": ("fdt.policy.hub", False, "fetch the default model and say where it is"),
    "data": ("fdt.cli.data.main", False, "check, show, convert, cut into steps or describe a feedback file"),
    "grams": ("fdt.cli.grams", False, "mine the phrases that correct solutions share, for HICRA"),
    "critique": ("fdt.cli.critique", False, "have a judge add scores, critiques and corrections to a file"),
    "annotate": ("fdt.cli.annotate.main", False, "a page where people score, criticise and correct answers"),
    "serve": ("fdt.cli.serve.main", False, "answer OpenAI's clients and record what they say as feedback"),
    "reference": ("fdt.cli.reference.main", False, "list what a config can name, or explain one of them"),
}


def format_usage() -> str:
    """The text of `fdt --help`."""
    lines = [f"  {verb:<9} {line}" for verb, (_, _, line) in VERBS.items()]
    return "\n".join(
        [
            f"fdt {__version__}: train language models on scores and critiques at once",
            "",
            "usage: fdt VERB [ARGUMENTS]      fdt VERB --help explains a verb",
            "",
            *lines,
            "",
            "with any verb:",
            "  --allow-imports=NAME,NAME            modules that configs may name beside fdt's; importing runs code",
            "",
            "example:",
            "  fdt configs                          what is shipped",
            "  fdt fit -c quickstart                train the default model on the bundled feedback",
            "  fdt fit -c quickstart -c mine.yaml --trainer.max_steps 50",
        ]
    )


def format_unknown_verb(verb: str) -> str:
    """One line that names the nearest verb, or all of them where none is near."""
    near = find_nearest(verb, VERBS)
    hint = f"Did you mean `fdt {near}`?" if near else f"Known verbs: {', '.join(VERBS)}."
    return f"fdt: unknown verb {verb!r}. {hint}"


def dispatch(verb: str, rest: list[str]) -> int:
    """Runs one verb and returns its exit code.

    Raises:
        Exception: whatever the verb raises, except the errors that a user can correct.
    """
    module, keeps_verb, _ = VERBS[verb]

    def run() -> int:
        given = take_allowed(rest)
        return importlib.import_module(module).main([verb, *given] if keeps_verb else given)

    return run_command(run)


def main(argv: list[str] | None = None) -> int:
    """Entry point of the console script; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(format_usage())
        return 0 if argv else EXPECTED_ERROR
    if argv[0] == "--version":
        print(__version__)
        return 0
    if argv[0] not in VERBS:
        print(format_unknown_verb(argv[0]), file=sys.stderr)
        return EXPECTED_ERROR
    return dispatch(argv[0], argv[1:])


if __name__ == "__main__":
    sys.exit(main())
