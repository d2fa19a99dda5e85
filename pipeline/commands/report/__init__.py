"""`report`: one HTML file about an output directory, from one pass over its rows."""
