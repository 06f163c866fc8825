"""What a run leaves behind: its result, and the leaderboard, plots, tables and loggers that show it."""
