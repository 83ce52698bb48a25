"""What the columns of a strange file may be: names that stand for a field, and values that tables write as text."""
