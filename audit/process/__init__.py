"""What commands and workers need of their process: signals, streams, resource readings."""
