"""What a person types: the command line, one experiment, sweeps and tuning."""
