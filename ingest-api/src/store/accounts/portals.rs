//! What organisations set of their portals.

use shared::domain::id::OrgId;

use crate::domain::accounts::portal::PortalSettings;
use crate::store::{Result, Store};

impl Store {
    /// What an organisation set of its portal; the defaults when it set nothing.
    pub(crate) async fn portal_settings(&self, org_id: OrgId) -> Result<PortalSettings> {
        let found = sqlx::query_as!(
            PortalSettings,
            "select name, origins, logo, primary_color, accent_color, dark_primary_color, dark_accent_color
             from portals where org_id = $1",
            org_id.as_uuid(),
        );
        Ok(found.fetch_optional(&self.pool).await?.unwrap_or_default())
    }

    /// Sets all of an organisation's portal.
    pub(crate) async fn write_portal_settings(&self, org_id: OrgId, settings: &PortalSettings) -> Result<()> {
        let mut transaction = self.begin_change(&self.pool).await?;
        sqlx::query!(
            "insert into portals (org_id, name, origins, logo, primary_color, accent_color, dark_primary_color,
                                  dark_accent_color)
             values ($1, $2, $3, $4, $5, $6, $7, $8)
             on conflict (org_id) do update
             set name = excluded.name, origins = excluded.origins, logo = excluded.logo,
                 primary_color = excluded.primary_color, accent_color = excluded.accent_color,
                 dark_primary_color = excluded.dark_primary_color, dark_accent_color = excluded.dark_accent_color",
            org_id.as_uuid(),
            settings.name,
            &settings.origins,
            settings.logo,
            settings.primary_color,
            settings.accent_color,
            settings.dark_primary_color,
            settings.dark_accent_color,
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await
    }
}
