"""`python -m distillab.cache check data=folder …`, `export`, `import`, `requests`: what a cache holds, with the words of train.py."""

import sys

from distillab.commands.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "cache")
    main()
