"""The version, declared in src/oz_agent_worker/__init__.py: check it, set it, and print its changes.

python scripts/version.py                   print it, and fail if a chart has another
python scripts/version.py --check 1.2.3     also fail if it, or the changelog, is not 1.2.3
python scripts/version.py --set 1.2.3       write it to the package and to the charts
python scripts/version.py --notes 1.2.3     print the section of 1.2.3 in CHANGELOG.md
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PACKAGE: Final = "src/oz_agent_worker/__init__.py"
CHARTS: Final = ("charts/oz-agent-worker/Chart.yaml", "charts/oz-control-plane/Chart.yaml")

_PACKAGE_LINE: Final = re.compile(r'^__version__ = "(.+)"$', re.MULTILINE)
_CHART_LINE: Final = re.compile(r'^(version|appVersion): "?([^"\n]+)"?$', re.MULTILINE)
#: Semantic Versioning 2.0.0, without build metadata, which image tags cannot hold.
_VERSION: Final = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?")


def package_version(root: Path) -> str:
    """The version of the package.

    Raises:
        ValueError: the package declares none.
    """
    if (match := _PACKAGE_LINE.search((root / PACKAGE).read_text())) is None:
        raise ValueError(f"{PACKAGE} has no __version__")
    return match[1]


def differences(root: Path, wanted: str) -> Iterator[str]:
    """Yield a sentence for each place that has another version than ``wanted``."""
    if (found := package_version(root)) != wanted:
        yield f"{PACKAGE} has {found}, not {wanted}"
    for chart in CHARTS:
        found_in_chart = dict(_CHART_LINE.findall((root / chart).read_text()))
        for key in ("version", "appVersion"):
            if found_in_chart.get(key) != wanted:
                yield f"{chart}: {key} is {found_in_chart.get(key)}, not {wanted}"


def notes(changelog: str, version: str) -> str | None:
    """The section of a changelog about ``version``; ``None`` without one."""
    heading = rf"^## \[?{re.escape(version)}\]?(?: [^\n]*)?$"
    match = re.search(rf"{heading}\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    return match[1].strip() if match else None


def write(root: Path, version: str) -> None:
    """Set the version in the package and in the charts."""
    package = root / PACKAGE
    package.write_text(_PACKAGE_LINE.sub(f'__version__ = "{version}"', package.read_text()))
    for name in CHARTS:
        chart = root / name
        chart.write_text(_CHART_LINE.sub(rf"\1: {version}", chart.read_text()))


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Carry out a command line; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    choice = parser.add_mutually_exclusive_group()
    for name in ("check", "set", "notes"):
        choice.add_argument(f"--{name}", metavar="VERSION")
    options = parser.parse_args(arguments)
    version = options.check or options.set or options.notes or package_version(root)
    if not _VERSION.fullmatch(version):
        parser.error(f"{version} is not a semantic version such as 1.2.3 or 1.2.3-rc.1")
    if options.set:
        write(root, version)
    section = notes((root / "CHANGELOG.md").read_text(), version)
    if (options.check or options.notes) and section is None:
        print(f"CHANGELOG.md has no section for {version}", file=sys.stderr)
        return 1
    wrong = list(differences(root, version)) if not options.notes else []
    for line in wrong:
        print(line, file=sys.stderr)
    print(section if options.notes else version)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
