"""Write the generated files, check them, or build the site."""

import argparse
import sys
from collections.abc import Sequence

from .parts import ROOT, behind
from .site import build

__all__ = ["main"]


def _write() -> int:
    for path, content in behind():
        path.write_text(content, encoding="utf-8")
    return 0


def _check() -> int:
    late = [path.relative_to(ROOT) for path, _ in behind()]
    for path in late:
        print(f"{path} is behind what it is written from: run `make docs`", file=sys.stderr)
    return 1 if late else 0


def _site() -> int:
    return build(ROOT / "site", ROOT / "build" / "doctrees")


def main(argv: Sequence[str] | None = None) -> int:
    """Do one of them; return the exit code."""
    actions = {"write": _write, "check": _check, "site": _site}
    parser = argparse.ArgumentParser(prog="python -m scripts.docs", description=__doc__)
    parser.add_argument("action", choices=actions)
    return actions[parser.parse_args(argv).action]()


if __name__ == "__main__":
    sys.exit(main())
