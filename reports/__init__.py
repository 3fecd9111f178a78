"""What a search run found: tables, figures and one self-contained page, from its records alone."""
