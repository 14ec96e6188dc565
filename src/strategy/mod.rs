//! The two questions every strategy answers, `route` and `judge`, over plain data.
