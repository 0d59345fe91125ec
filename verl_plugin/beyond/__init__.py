"""What the report does not have, each off by default (docs/beyond-table3.md): other advantages, and groups that teach nothing."""
