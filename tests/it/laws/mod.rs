//! Laws that hold for any input: generated histories against naive models, and decoders on any bytes.

pub(crate) mod analyst;
pub(crate) mod corpus;
pub(crate) mod decoders;
pub(crate) mod plans;
pub(crate) mod reading;
pub(crate) mod serving;
