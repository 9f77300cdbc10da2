"""Curves and tables, in the terminal and in TensorBoard."""
