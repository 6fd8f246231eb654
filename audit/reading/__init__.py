"""Questions to the trail: filters, following, statistics, the state of seals."""
