"""Known weaknesses of the pinned packages, by pip-audit: fails on any, says so where nobody could be asked."""

import json
import subprocess
import sys
from typing import Any

FILES = ("constraints.txt", "constraints-vllm.txt")
SECONDS = 120


def ask(file: str) -> dict[str, Any] | None:
    """What pip-audit says of the pins of a file; None where it could not ask."""
    command = [sys.executable, "-m", "pip_audit", "-r", file, "--no-deps", "--disable-pip", "--format=json"]
    try:
        done = subprocess.run(
            [*command, "--progress-spinner=off", "--timeout=10"],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return json.loads(done.stdout)
    except (ValueError, subprocess.TimeoutExpired):
        return None


def main() -> int:
    """Prints a line for each file, and one for each weakness; 1 where there are any."""
    status = 0
    for file in FILES:
        found = ask(file)
        packages = [] if found is None else found["dependencies"]
        asked = [package for package in packages if "skip_reason" not in package]
        if not asked:
            print(f"pip-audit: {file}: not checked, the service that knows weaknesses could not be asked")
            continue
        print(f"pip-audit: {file}: {len(asked)} of {len(packages)} packages checked")
        for package in asked:
            for weakness in package["vulns"]:
                status = 1
                mended = ", ".join(weakness["fix_versions"]) or "none yet"
                print(f"{file}: {package['name']} {package['version']}: {weakness['id']}; mended in {mended}")
    return status


if __name__ == "__main__":
    sys.exit(main())
