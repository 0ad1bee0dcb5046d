//! The inbox of the Zapier Triggers API.

use crate::words;

words! {
    /// Where an event of the inbox stands.
    pub enum InboxStatus("inbox status") {
        /// Neither acknowledged nor delivered to the webhook.
        Pending = "pending",
        /// Delivered to the webhook, and not acknowledged.
        Delivered = "delivered",
        /// Acknowledged.
        Acknowledged = "acknowledged",
    }
}
