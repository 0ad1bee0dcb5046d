//! Tenants, as their organisation makes, changes and sees them.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use shared::domain::id::OrgId;
use shared::domain::name::Tenant;
use shared::words;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::accounts::quota::{QuotaAction, check_events_per_month};
use crate::domain::form::field::Field;
use crate::domain::form::field_errors::{FieldErrors, WrongFields, check_display_name};
use crate::domain::form::whole;

/// Most bytes of a tenant's metadata: its names and its values.
const MAX_METADATA_BYTES: usize = 4_096;

words! {
    /// Where a tenant stands.
    pub(crate) enum TenantStatus("tenant status") {
        /// Its events go to its endpoints.
        Enabled = "enabled",
        /// Its events go only to the endpoints of all tenants.
        Disabled = "disabled",
        /// It is being deleted.
        Deleting = "deleting",
    }
}

/// What an organisation sets of a tenant. For `PUT`, a field that is left out gets its default. For `PATCH` (JSON merge
/// patch), it stays, and null sets the default.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantForm {
    /// The organisation's name for it, up to 200 characters.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 200)]
    name: Field<String>,
    /// Whatever the organisation keeps with it: strings by name, up to 4 KiB. In a change, a name with null is removed.
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, Option<String>>>)]
    metadata: Field<BTreeMap<String, Option<String>>>,
    /// Most requests and events a minute, within the organisation's limit; no limit of its own unless given.
    #[serde(default, deserialize_with = "whole::read")]
    #[schema(value_type = Option<u32>, minimum = 1)]
    rate_limit_per_minute: Field<NonZeroU32>,
    /// Its quota of events a month, within the organisation's; none unless given.
    #[serde(default, deserialize_with = "whole::read")]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 1_000_000_000_000_u64)]
    events_per_month: Field<u64>,
    /// What becomes of the events beyond the quota: `warn` unless given.
    #[serde(default)]
    #[schema(value_type = Option<QuotaAction>)]
    quota_action: Field<QuotaAction>,
    /// `enabled` or `disabled`.
    #[serde(default)]
    #[schema(value_type = Option<TenantSwitch>)]
    status: Field<TenantStatus>,
}

/// What an organisation can set a tenant's status to, for the OpenAPI document.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "it documents what the form takes")]
pub(crate) enum TenantSwitch {
    /// Its events go to its endpoints.
    Enabled,
    /// Its events go only to the endpoints of all tenants.
    Disabled,
}

/// What is set of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TenantSettings {
    /// The organisation's name for it.
    pub name: String,
    /// What the organisation keeps with it.
    pub metadata: BTreeMap<String, String>,
    /// A limit of its own.
    pub rate_limit_per_minute: Option<NonZeroU32>,
    /// A quota of events a month.
    pub events_per_month: Option<u64>,
    /// What becomes of the events beyond the quota.
    pub quota_action: QuotaAction,
    /// Whether its endpoints get its events.
    pub status: TenantStatus,
}

impl Default for TenantSettings {
    fn default() -> Self {
        Self {
            name: String::new(),
            metadata: BTreeMap::new(),
            rate_limit_per_minute: None,
            events_per_month: None,
            quota_action: QuotaAction::Warn,
            status: TenantStatus::Enabled,
        }
    }
}

impl TenantForm {
    /// The settings after this change.
    ///
    /// # Errors
    /// With every wrong field.
    pub(crate) fn apply(self, mut settings: TenantSettings) -> Result<TenantSettings, WrongFields> {
        let mut errors = FieldErrors::default();
        self.name.apply(&mut settings.name, String::new());
        if !settings.name.is_empty() {
            errors.check("name", check_display_name(&settings.name));
        }
        match self.metadata {
            Field::Absent => {}
            Field::Null => settings.metadata = BTreeMap::new(),
            Field::Value(changes) => {
                for (name, value) in changes {
                    match value {
                        Some(value) => _ = settings.metadata.insert(name, value),
                        None => _ = settings.metadata.remove(&name),
                    }
                }
            }
        }
        errors.check("metadata", check_metadata(&settings.metadata));
        self.rate_limit_per_minute
            .apply_to_option(&mut settings.rate_limit_per_minute);
        self.events_per_month
            .apply_to_option(&mut settings.events_per_month);
        let quota = check_events_per_month(settings.events_per_month);
        errors.check("events_per_month", quota);
        self.quota_action
            .apply(&mut settings.quota_action, QuotaAction::Warn);
        if self.status == Field::Value(TenantStatus::Deleting) {
            errors.push("status", "must be `enabled` or `disabled`");
        }
        self.status.apply(&mut settings.status, TenantStatus::Enabled);
        errors.finish()?;
        Ok(settings)
    }
}

/// Stands for an organisation's tenant where its id must not: a hash, which differs from one `purpose` to the other.
pub(crate) fn hash_of(purpose: &str, org_id: OrgId, tenant: &str) -> Uuid {
    let mut hasher = blake3::Hasher::new_derive_key(purpose);
    hasher
        .update(org_id.as_uuid().as_bytes())
        .update(tenant.as_bytes());
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    Uuid::new_v8(bytes)
}

fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<(), &'static str> {
    let bytes: usize = metadata
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if bytes > MAX_METADATA_BYTES {
        return Err("must not be longer than 4096 bytes, names and values together");
    }
    if metadata
        .iter()
        .any(|(name, value)| name.contains('\0') || value.contains('\0'))
    {
        return Err("must hold no NUL");
    }
    Ok(())
}

/// A tenant, as its organisation sees it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TenantView {
    /// The organisation's id for it.
    pub uid: Tenant,
    /// The organisation's name for it.
    pub name: String,
    /// What the organisation keeps with it.
    pub metadata: BTreeMap<String, String>,
    /// Its own limit, when it has one.
    pub rate_limit_per_minute: Option<u32>,
    /// Its quota of events a month, when it has one.
    pub events_per_month: Option<u64>,
    /// What becomes of the events beyond the quota.
    pub quota_action: QuotaAction,
    /// Whether its endpoints get its events.
    pub status: TenantStatus,
    /// When it was made.
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    pub updated_at: OffsetDateTime,
    /// Its events whose payloads are still to be removed, while it is being deleted: 10 000 stands for that many or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub events_left: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(body: &str) -> TenantForm {
        serde_json::from_str(body).unwrap()
    }

    fn wrong(body: &str) -> Vec<String> {
        let WrongFields(errors) = form(body).apply(TenantSettings::default()).unwrap_err();
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn a_change_sets_what_it_names_and_null_sets_the_default() {
        let all = r#"{"name":"Acme","metadata":{"plan":"pro","old":"1"},"rate_limit_per_minute":60,"events_per_month":9,"quota_action":"refuse","status":"disabled"}"#;
        let settings = form(all).apply(TenantSettings::default()).unwrap();
        assert_eq!(form("{}").apply(settings.clone()).unwrap(), settings);
        let changed = form(r#"{"metadata":{"old":null,"new":"2"}}"#).apply(settings.clone());
        let names: Vec<_> = changed.unwrap().metadata.into_keys().collect();
        assert_eq!(names, ["new", "plan"]);
        let none = r#"{"name":null,"metadata":null,"rate_limit_per_minute":null,"events_per_month":null,"quota_action":null,"status":null}"#;
        assert_eq!(form(none).apply(settings).unwrap(), TenantSettings::default());
    }

    #[test]
    fn wrong_fields_are_named() {
        let long = "x".repeat(4_097);
        assert_eq!(wrong(r#"{"status":"deleting"}"#), ["status"]);
        assert_eq!(wrong(r#"{"events_per_month":0}"#), ["events_per_month"]);
        assert_eq!(wrong(&format!(r#"{{"name":"{long}"}}"#)), ["name"]);
        assert_eq!(
            wrong(&format!(r#"{{"metadata":{{"a":"{long}"}}}}"#)),
            ["metadata"]
        );
        for body in [
            r#"{"metadata":{"a":1}}"#,
            r#"{"uid":"a"}"#,
            r#"{"rate_limit_per_minute":0}"#,
        ] {
            assert!(serde_json::from_str::<TenantForm>(body).is_err(), "{body}");
        }
    }
}
