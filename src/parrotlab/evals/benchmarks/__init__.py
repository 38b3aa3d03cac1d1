"""Benchmarks as task files of lm-evaluation-harness: one file each, and the folder is the registry."""
