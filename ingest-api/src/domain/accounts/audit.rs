//! The words of the audit log.

use shared::words;

words! {
    /// What was changed.
    pub(crate) enum AuditKind("audit kind") {
        /// An organisation.
        Organization = "organization",
        /// An API key.
        Key = "key",
        /// An endpoint.
        Endpoint = "endpoint",
        /// A tenant.
        Tenant = "tenant",
        /// What an organisation set of its portal; the id is the organisation's.
        Portal = "portal",
    }
}

words! {
    /// What was done to it.
    pub(crate) enum AuditAction("audit action") {
        /// It is new.
        Made = "made",
        /// Something about it is different.
        Changed = "changed",
        /// A key is not valid any more.
        Revoked = "revoked",
        /// It is gone, or going.
        Deleted = "deleted",
    }
}
