//! How many things of a kind there may be.

/// The most things of a kind that one owner may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Maximum {
    /// Who may have no more.
    pub owner: &'static str,
    /// What is counted.
    pub what: &'static str,
    /// How many there may be.
    pub count: i64,
    /// The verb that makes room.
    pub remedy: &'static str,
}

impl Maximum {
    /// The same for a tenant, if it is about one.
    pub(crate) fn of_tenant(self, is_tenant: bool) -> Self {
        let owner = if is_tenant { "the tenant" } else { self.owner };
        Self { owner, ..self }
    }
}
