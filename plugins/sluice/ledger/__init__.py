"""The append-only record of releases and their evidence, one object per entry. Implements `ports.Ledger`."""
