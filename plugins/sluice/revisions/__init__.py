"""Where a model's revisions come from. Implements `ports.Revisions`."""
