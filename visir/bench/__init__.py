"""Declared comparisons of trainings: a grid of jobs, its results, tables, plots and checks."""
