"""The command line, one experiment, sweeps and tuning."""
