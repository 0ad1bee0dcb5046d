//! Templates that render the bodies of webhooks: how they are given, and a try before any event meets them.

pub(crate) mod form;
pub(crate) mod test;
