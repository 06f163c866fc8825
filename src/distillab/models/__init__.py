"""Networks, and what they look like from outside."""
