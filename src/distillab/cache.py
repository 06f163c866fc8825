"""`python -m distillab.cache requests data=text …` and `… import …`: a teacher that is served elsewhere, with the words of train.py."""

import sys

from distillab.commands.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "cache")
    main()
