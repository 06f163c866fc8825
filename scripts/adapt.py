"""Adapt a language model to a domain: `python scripts/adapt.py student=runs/sotu/HASH/student data=text data.path=…`."""

from distillab.commands.adapt import main

if __name__ == "__main__":
    main()
