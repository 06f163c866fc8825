"""Views of the results: tables, plots, leaderboard, report, loggers."""
