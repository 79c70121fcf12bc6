"""The command `concord` of the installed package, which equals `python app.py`."""

import sys
from pathlib import Path


def main() -> None:
    """Run the command line with the package's folder as the first place for imports.

    The modules `api`, `models` and `app` are therefore found beside this file. They are not
    installed at the top level, where their names could belong to another package.
    """
    sys.path.insert(0, str(Path(__file__).parent))
    from app import main as run  # noqa: PLC0415 - it is found only now.

    run()


if __name__ == "__main__":
    main()
