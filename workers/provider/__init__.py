"""The provider role: carries out one order at a time against an upstream panel, outside any transaction."""
