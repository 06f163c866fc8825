"""Data: splits, labels, seeded order and batches of any samples; `images` has everything for pixels."""
