//! Organisations.

use super::{Result, Store};
use crate::routes::organizations::Organization;

impl Store {
    /// Stores a new organisation.
    pub async fn create_organization(&self, organization: &Organization) -> Result<()> {
        sqlx::query!(
            "insert into organizations (id, name, tier, rate_limit_per_minute) values ($1, $2, $3, $4)",
            organization.id.as_uuid(),
            organization.name,
            organization.tier.name(),
            organization.rate_limit_per_minute.map(i64::from),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
