"""Tables and BIDS in, a `Cohort` out; labels; the audit of tables."""
