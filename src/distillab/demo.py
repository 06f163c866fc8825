"""`python -m distillab.demo run=runs/<name>/<hash>`: teacher, student alone and distilled student on a local page."""

import sys

from distillab.commands.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "demo")
    main()
