"""Wire forms: pure translations between the callers' bytes and our vocabulary. Vendors' field names live only here."""
