//! The words for what becomes of deliveries.

use crate::words;

words! {
    /// Where a delivery stands.
    pub enum DeliveryStatus("delivery status") {
        /// It will be tried, or tried again.
        Pending = "pending",
        /// The receiver has it.
        Delivered = "delivered",
        /// It was given up, and is kept.
        Dead = "dead",
    }
}

words! {
    /// How an attempt ended, or why a delivery ended without one. `delivery-worker/README.md` explains each.
    pub enum Outcome("outcome") {
        /// The status was 2xx.
        Delivered = "delivered",
        /// The status was another one.
        Status = "status",
        /// The status was 3xx.
        Redirect = "redirect",
        /// No status came in time.
        Timeout = "timeout",
        /// There was no connection.
        Connect = "connect",
        /// The host name has no address.
        Dns = "dns",
        /// There was no TLS, or no valid certificate.
        Tls = "tls",
        /// Webhooks may not go to this URL, or to any address of its host.
        Refused = "refused",
        /// There was no token to send the request with.
        Auth = "auth",
        /// The connection broke before the status came.
        Network = "network",
        /// What came is not HTTP, or more than an answer may be.
        Response = "response",
        /// A defect of Penstock.
        Panic = "panic",
        /// No attempt: the payload was removed before.
        Expunged = "expunged",
        /// No attempt: the endpoint was removed before.
        EndpointDeleted = "endpoint_deleted",
        /// No attempt: the event's or the endpoint's tenant was removed before.
        TenantDeleted = "tenant_deleted",
        /// No attempt: the filters of the event's endpoints would have taken too many steps.
        Filter = "filter",
        /// The endpoint's template could not be rendered.
        Template = "template",
        /// Whoever pulled the delivery gave it back.
        Rejected = "rejected",
        /// Nobody acknowledged a pulled delivery before its end.
        Unacknowledged = "unacknowledged",
    }
}

impl Outcome {
    /// Whether an attempt that ended so tells how well its receiver is, and so counts for the endpoint's health.
    pub const fn counts_for_health(self) -> bool {
        match self {
            Self::Delivered
            | Self::Status
            | Self::Redirect
            | Self::Timeout
            | Self::Connect
            | Self::Dns
            | Self::Tls
            | Self::Refused
            | Self::Auth
            | Self::Network
            | Self::Response
            | Self::Panic => true,
            Self::Expunged
            | Self::EndpointDeleted
            | Self::TenantDeleted
            | Self::Filter
            | Self::Template
            | Self::Rejected
            | Self::Unacknowledged => false,
        }
    }
}

words! {
    /// Where a recovery stands.
    pub enum RecoveryStatus("recovery status") {
        /// Workers go through its deliveries.
        Running = "running",
        /// They have gone through all of them.
        Finished = "finished",
        /// It was stopped before.
        Cancelled = "cancelled",
    }
}
