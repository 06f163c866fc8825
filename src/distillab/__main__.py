"""`python -m distillab`."""

from distillab.commands.cli import main

if __name__ == "__main__":
    main()
