"""Comparisons of the complete system with two baselines on the same machine, in the same run (`keyway bench`).

System S is what ships. Baseline A is a raw aiokafka request/reply echo, baseline B a plain synchronous endpoint on
asyncpg that makes the same writes. docs/benchmarks.md tells how they are measured and how to read the figures.
"""
