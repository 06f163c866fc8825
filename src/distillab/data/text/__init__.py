"""Text for language models: documents, tokens, blocks."""
