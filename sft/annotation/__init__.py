"""From raw video to structural documents (section 3.1.2, figure 2): shots found, labels pre-filled by a model, filtered, checked."""
