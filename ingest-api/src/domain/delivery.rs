//! Deliveries.

use serde::Deserialize;
use utoipa::ToSchema;

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryStatus {
    /// It will be tried, or tried again.
    Pending,
    /// The receiver has it.
    Delivered,
    /// It was given up, and is kept.
    Dead,
}

impl DeliveryStatus {
    /// The name in the API and in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }
}
