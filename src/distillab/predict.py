"""`python -m distillab.predict run=runs/<name>/<hash> images/`: what the student of a run tells of images or texts."""

import sys

from distillab.commands.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "predict")
    main()
