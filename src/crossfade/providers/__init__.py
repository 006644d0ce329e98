"""What each provider is: how a request to it is built, how its answers, streams and errors are read."""
