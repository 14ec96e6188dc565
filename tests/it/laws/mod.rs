//! Laws that hold for any input: random histories against naive models (`analyst`, `serving`, `plans`, `reading`), decoders on arbitrary bytes, and the fuzz corpus.

pub(crate) mod analyst;
pub(crate) mod corpus;
pub(crate) mod decoders;
pub(crate) mod plans;
pub(crate) mod reading;
pub(crate) mod serving;
