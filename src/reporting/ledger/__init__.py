"""The claims ledger: evidence, verdicts, and the tables of both."""
