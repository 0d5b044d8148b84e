"""Result pages: what runs have found, what made them, and which are out of date."""
