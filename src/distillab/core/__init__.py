"""What every room stands on: errors, files, processes, results."""
