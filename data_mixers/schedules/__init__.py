"""Which task comes at which position, and proof of how near that is to the weights (section 5.2.4)."""
