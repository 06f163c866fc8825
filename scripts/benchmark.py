"""Speed and memory of distillation, in one run: `python scripts/benchmark.py --help`."""

from benchmark.main import main

if __name__ == "__main__":
    main()
