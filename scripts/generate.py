"""Text that a teacher writes: `python scripts/generate.py teacher=FOLDER out=FOLDER file=prompts.txt` (docs/synthetic.md)."""

import sys

from distillab.core.output import take_any_letter
from distillab.core.stopping import listen, stop
from distillab.data.text.synthetic.write import main

if __name__ == "__main__":
    listen(stop)
    take_any_letter()
    sys.exit(main(sys.argv[1:]))
