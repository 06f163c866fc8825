"""Speed and memory of distillation, in one run: `python scripts/benchmark.py --help`."""

from distillab.benchmark import main

if __name__ == "__main__":
    main()
