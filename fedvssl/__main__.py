"""`python -m fedvssl`: the console command `fedvssl`."""

import sys

from fedvssl.cli import main

if __name__ == "__main__":
    sys.exit(main())
