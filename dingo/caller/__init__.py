"""The caller's side: a call becomes a Result, and Reports bring it to its end."""
