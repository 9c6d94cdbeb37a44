#!/usr/bin/env python3
"""kill(1) for probes such as ``kill -0 1``, so that the image needs neither a shell nor procps."""

import os
import sys


def main(arguments: list[str]) -> int:
    if len(arguments) != 2 or not arguments[0].startswith("-"):
        print("usage: kill -SIGNAL PID", file=sys.stderr)
        return 2
    try:
        os.kill(int(arguments[1]), int(arguments[0][1:]))
    except ValueError:
        print("kill: SIGNAL and PID are numbers", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"kill: ({arguments[1]}) - {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
