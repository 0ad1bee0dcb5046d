//! What organisations and tenants have used.

use std::fmt::{self, Write as _};

use serde::Serialize;
use shared::domain::id::OrgId;
use shared::domain::name::{MAX_NAME_BYTES, Tenant};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::form::day::Day;

/// What a tenant, or an organisation without one, has used on a day.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageEntry {
    /// Whose events.
    #[schema(value_type = String, format = Uuid)]
    pub organization_id: OrgId,
    /// The day in UTC on which they were accepted.
    #[schema(value_type = String, format = Date)]
    pub day: Day,
    /// The tenant; null stands for the events of none.
    pub tenant: Option<Tenant>,
    /// Events. Those that Penstock itself sends do not count.
    pub accepted: i64,
    /// Bytes of their payloads.
    pub bytes: i64,
    /// Their deliveries that were delivered.
    pub delivered: i64,
    /// The attempts of all their deliveries.
    pub attempts: i64,
    /// Their deliveries that were given up.
    pub dead: i64,
}

/// The first line of entries in CSV.
const HEADING: &str = "organization_id,day,tenant,accepted,bytes,delivered,attempts,dead\r\n";

/// Entries as CSV (RFC 4180).
pub(crate) fn csv(entries: &[UsageEntry]) -> String {
    let mut text = HEADING.to_owned();
    for entry in entries {
        // Writing to a string does not fail.
        let _ = line(&mut text, entry);
    }
    text
}

fn line(text: &mut String, entry: &UsageEntry) -> fmt::Result {
    let UsageEntry {
        organization_id,
        day,
        tenant,
        accepted,
        bytes,
        delivered,
        attempts,
        dead,
    } = entry;
    let tenant = tenant.as_ref().map_or("", Tenant::as_str);
    write!(text, "{organization_id},{},", day.0)?;
    // A tenant has no line breaks in it.
    if tenant.contains([',', '"']) {
        write!(text, "\"{}\"", tenant.replace('"', "\"\""))?;
    } else {
        text.push_str(tenant);
    }
    write!(text, ",{accepted},{bytes},{delivered},{attempts},{dead}\r\n")
}

/// Where, within a day, a page of entries ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UsagePlace(Vec<u8>);

impl UsagePlace {
    /// After this organisation's tenant; empty is none.
    pub(crate) fn new(org_id: OrgId, tenant: &str) -> Self {
        Self([org_id.as_uuid().as_bytes(), tenant.as_bytes()].concat())
    }

    /// The organisation.
    pub(crate) fn org_id(&self) -> Uuid {
        Uuid::from_slice(&self.0[..16]).unwrap_or_default()
    }

    /// The tenant.
    pub(crate) fn tenant(&self) -> &str {
        std::str::from_utf8(&self.0[16..]).unwrap_or_default()
    }
}

impl AsRef<[u8]> for UsagePlace {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Bytes that are no place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoPlace;

impl TryFrom<Vec<u8>> for UsagePlace {
    type Error = NoPlace;

    fn try_from(bytes: Vec<u8>) -> Result<Self, NoPlace> {
        let tenant = bytes
            .get(16..)
            .and_then(|tenant| std::str::from_utf8(tenant).ok());
        let is_one = tenant.is_some_and(|tenant| tenant.len() <= MAX_NAME_BYTES && !tenant.contains('\0'));
        is_one.then_some(Self(bytes)).ok_or(NoPlace)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::{date, datetime};

    use super::*;
    use crate::domain::cursor::Cursor;

    #[test]
    fn a_tenant_with_commas_and_quotes_is_one_field_of_csv() {
        let entry = |tenant: Option<&str>| UsageEntry {
            organization_id: OrgId::from(Uuid::nil()),
            day: Day(date!(2026 - 11 - 23)),
            tenant: tenant.map(|tenant| tenant.parse().unwrap()),
            accepted: 3,
            bytes: 12,
            delivered: 2,
            attempts: 4,
            dead: 1,
        };
        let entries = [entry(None), entry(Some("acme")), entry(Some("a,\"b\""))];
        insta::assert_snapshot!(csv(&entries).replace('\r', ""), @r#"
        organization_id,day,tenant,accepted,bytes,delivered,attempts,dead
        00000000-0000-0000-0000-000000000000,2026-11-23,,3,12,2,4,1
        00000000-0000-0000-0000-000000000000,2026-11-23,acme,3,12,2,4,1
        00000000-0000-0000-0000-000000000000,2026-11-23,"a,""b""",3,12,2,4,1
        "#);
    }

    #[test]
    fn a_place_comes_back_in_a_cursor_and_no_other_bytes_are_one() {
        let org_id = OrgId::generate();
        for tenant in ["", "acme", "ü"] {
            let cursor = Cursor {
                at: datetime!(2026-11-23 0:00 UTC),
                id: UsagePlace::new(org_id, tenant),
            };
            let read = Cursor::<UsagePlace>::decode(&cursor.encode()).unwrap();
            assert_eq!((read.id.org_id(), read.id.tenant()), (org_id.as_uuid(), tenant));
            assert_eq!(read, cursor);
        }
        for bytes in [
            vec![0; 15],
            [vec![0; 16], vec![0xff]].concat(),
            vec![0; 17],
            vec![b'a'; 16 + 256],
        ] {
            assert!(UsagePlace::try_from(bytes).is_err());
        }
    }
}
