//! Programs of others that the tests start: packages of Debian, Node and Python, and what is fetched for them.

pub(super) mod debian;
pub(super) mod fetched;
pub(super) mod node;
pub(super) mod python;
