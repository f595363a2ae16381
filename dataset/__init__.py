"""Floor 4: AMD shards: schema, writer, reader, importers, exporters, splits, features, windows."""
