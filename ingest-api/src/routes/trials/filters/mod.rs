//! What a filter would let pass, before any event meets it.

pub(crate) mod judge;
pub(crate) mod preview;
pub(crate) mod test;
