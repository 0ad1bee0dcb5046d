//! A page of a list.

use uuid::Uuid;

use crate::domain::cursor::Cursor;

/// A page to be fetched.
#[derive(Debug)]
pub(crate) struct Page<Id> {
    /// Where the page before ended.
    pub after: Option<Cursor<Id>>,
    /// Most rows on it.
    pub limit: i64,
}

impl<Id: AsRef<[u8]> + TryFrom<Vec<u8>>> Page<Id> {
    /// Drops the one row that was fetched beyond the page. Returns the next page's cursor when there was such a row.
    pub(crate) fn cut<T>(
        &self,
        rows: &mut Vec<T>,
        position: impl FnOnce(&T) -> Cursor<Id>,
    ) -> Option<String> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        if rows.len() <= limit {
            return None;
        }
        rows.truncate(limit);
        rows.last().map(|last| position(last).encode())
    }
}

impl Page<Uuid> {
    /// Where the page begins in a list that has the newest first. It is always there: Postgres looks up no place in an index by a
    /// condition that may be null, and would read all that is newer for each page.
    pub(crate) fn before(&self) -> Cursor {
        self.after.unwrap_or(Cursor::NEWEST)
    }
}
