"""Sources of teacher outputs: frozen networks, their cache, ensembles, averages, labels."""
