"""The demo: a month of believable history, workers that go on with it, and proof that it cannot be changed."""
