"""`python -m distillab.doctor data=text data.path=…`: looks for the known mistakes of a run, with the words of train.py."""

import sys

from distillab.commands.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "doctor")
    main()
