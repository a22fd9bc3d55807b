"""The checkpoint that answers, swapped in place, and its answers, kept in the store."""
