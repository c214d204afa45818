"""python -m rstg, which torchrun -m rstg starts several times."""

import sys

from rstg.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
