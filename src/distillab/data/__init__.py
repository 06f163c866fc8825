"""Images, splits, seeded order and views."""
