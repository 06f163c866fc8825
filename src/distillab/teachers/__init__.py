"""Where trained networks come from and are kept."""
