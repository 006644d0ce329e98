"""What the complexity score is worth: labelled asks, how well it tells them apart, and the fit of its weights."""
