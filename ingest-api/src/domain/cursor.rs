//! Cursors: opaque tokens that say where a page ended.

use data_encoding::BASE64URL_NOPAD;
use shared::domain::clock::UnixMicros;
use time::OffsetDateTime;
use time::macros::datetime;
use uuid::Uuid;

/// The last row of a page that is ordered by a time and an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor<Id = Uuid> {
    /// The row's time.
    pub at: OffsetDateTime,
    /// The row's id.
    pub id: Id,
}

impl Cursor {
    /// Newer than every row.
    pub(crate) const NEWEST: Self = Self {
        at: datetime!(9999-01-01 0:00 UTC),
        id: Uuid::max(),
    };

    /// Older than every row.
    pub(crate) const OLDEST: Self = Self {
        at: OffsetDateTime::UNIX_EPOCH,
        id: Uuid::nil(),
    };
}

impl<Id: AsRef<[u8]> + TryFrom<Vec<u8>>> Cursor<Id> {
    /// The opaque form.
    pub(crate) fn encode(&self) -> String {
        let at = UnixMicros::from(self.at).get().to_be_bytes();
        BASE64URL_NOPAD.encode(&[&at, self.id.as_ref()].concat())
    }

    /// Reads the opaque form. None for other text.
    pub(crate) fn decode(text: &str) -> Option<Self> {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
        let (at, id) = bytes.split_first_chunk::<8>()?;
        // A forged cursor must not hold a time that Postgres cannot represent.
        let at = Some(i64::from_be_bytes(*at)).filter(|micros| *micros >= 0)?;
        Some(Self {
            at: UnixMicros::new(at).to_date_time(),
            id: id.to_vec().try_into().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::access::key::KeyId;

    proptest! {
        #[test]
        fn a_cursor_comes_back(micros in 0i64..4_102_444_800_000_000, id in any::<u128>()) {
            let cursor = Cursor { at: UnixMicros::new(micros).to_date_time(), id: Uuid::from_u128(id) };
            prop_assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
            let id: KeyId = "abcdefghijklmnop".parse().unwrap();
            let cursor = Cursor { at: cursor.at, id };
            prop_assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
        }

        #[test]
        fn a_cursor_that_was_made_up_holds_a_time_that_the_database_knows(micros in any::<i64>()) {
            let bytes = [&micros.to_be_bytes()[..], &[0; 16]].concat();
            if let Some(cursor) = Cursor::<Uuid>::decode(&BASE64URL_NOPAD.encode(&bytes)) {
                prop_assert!((1_970..=9_999).contains(&cursor.at.year()));
            }
        }

        #[test]
        fn no_text_makes_the_decoder_panic(text in ".{0,60}") {
            let _ = Cursor::<Uuid>::decode(&text);
            let _ = Cursor::<KeyId>::decode(&text);
        }
    }
}
