"""What people look at: text, tables and pages made of values."""
