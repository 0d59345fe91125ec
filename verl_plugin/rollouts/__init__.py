"""How a prompt is rolled out: its media decoded, processed and sent once for all its rollouts; answers that keep to their form."""
