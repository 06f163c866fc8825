"""The project's W&B workspace and report: `python scripts/dashboard.py --project distillab [--offline]`."""

from distillab.reporting.dashboard import main

if __name__ == "__main__":
    main()
