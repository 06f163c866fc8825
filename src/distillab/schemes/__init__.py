"""Schemes: each provides the student with its teacher."""
