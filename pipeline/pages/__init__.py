"""Pages for people: one stylesheet, templates with escaping on, charts and thumbnails."""
