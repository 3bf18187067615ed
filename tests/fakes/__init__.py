"""Fakes that behave: each passes the conformance suite of the adapter that it stands for."""
