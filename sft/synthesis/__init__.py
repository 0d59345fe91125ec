"""Question-answer pairs from structural documents (section 3.1.3): four families, by templates, checked by the rewards."""
