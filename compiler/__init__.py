"""The machine: it knows graphs, plans and training, and no particular pass."""
