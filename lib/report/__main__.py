"""Build the book of a run.

python -m lib.report runs/quick
"""

import argparse
import sys

from lib.report.book import build_book


def main() -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lib.report", description=__doc__.partition("\n")[0])
    parser.add_argument("run", help="folder of a run, such as runs/quick; the book goes into its report/")
    try:
        index = build_book(parser.parse_args().run)
    except (FileNotFoundError, RuntimeError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Open {index} in a browser.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
