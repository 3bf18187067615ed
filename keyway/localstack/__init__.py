"""The local stack: a real PostgreSQL and a real Kafka as child processes, and our own processes under supervision.

Development and tests only, Linux only. It starts everything by command line and never imports a process it starts.
"""
