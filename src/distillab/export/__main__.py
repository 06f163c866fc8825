"""`python -m distillab.export run=runs/<name>/<hash> format=onnx`: exports the student of a run, finished or interrupted."""

import sys

from distillab.commands.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "export")
    main()
