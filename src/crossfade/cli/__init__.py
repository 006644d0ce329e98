"""The `crossfade` command, one file per subcommand."""
