"""What a run finds: records, rows, and the result of a sweep."""
