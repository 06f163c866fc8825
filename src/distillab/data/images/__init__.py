"""Everything for pixels."""
