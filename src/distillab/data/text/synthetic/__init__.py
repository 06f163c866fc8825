"""Text that a teacher writes: prompts, sampling, filters, shards with provenance (docs/synthetic.md)."""
