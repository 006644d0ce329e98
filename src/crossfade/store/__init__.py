"""Things that outlive the process."""
