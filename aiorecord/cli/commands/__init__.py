"""One module per subcommand of `aiorecord`."""
