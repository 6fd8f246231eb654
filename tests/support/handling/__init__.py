"""An app whose handlers misbehave in every way that a worker must withstand; `tests.support.worker` runs them."""
