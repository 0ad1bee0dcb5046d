//! How far a realm was told of, and what of it is new.

use tokio::time::Instant;

use super::item::Item;
use super::open::{OpenEvents, READ_OF_EACH};
use super::strand::Strand;
use crate::domain::access::realm::Realm;
use crate::store::{Arrival, Store};

/// How far a realm was told of.
#[derive(Debug)]
pub(super) struct Following {
    realm: Realm,
    entered: Instant,
    /// None before the first look.
    strands: Option<[Strand; 2]>,
    open: OpenEvents,
}

impl Following {
    /// Tells what is stored from now on.
    pub(super) fn new(realm: Realm) -> Self {
        Self {
            realm,
            entered: Instant::now(),
            strands: None,
            open: OpenEvents::default(),
        }
    }

    /// Adds what is new since the last turn.
    ///
    /// # Errors
    /// When Postgres does not answer. What was added before is not added again.
    pub(super) async fn take_turn(
        &mut self,
        store: &Store,
        items: &mut Vec<Item>,
    ) -> Result<(), sqlx::Error> {
        self.take_events(store, items).await?;
        let places = self.open.places(self.realm.org_id);
        if !places.is_empty() {
            let rows = store.tail_deliveries(&self.realm, &places, READ_OF_EACH).await?;
            self.open.take(rows, items);
        }
        Ok(())
    }

    async fn take_events(&mut self, store: &Store, items: &mut Vec<Item>) -> Result<(), sqlx::Error> {
        let mut look = store.look_at_tail(&self.realm).await?;
        let now = look.now();
        let strands = self.strands.get_or_insert_with(|| {
            let begun = now - self.entered.elapsed();
            [Arrival::InTime, Arrival::Late].map(|arrival| Strand::new(arrival, &self.realm, begun))
        });
        for strand in strands {
            let news = strand.take_turn(&mut look).await?;
            if news.has_uncounted {
                items.push(Item::skipped(None));
            }
            if news.skipped > 0 {
                items.push(Item::skipped(Some(news.skipped)));
            }
            for event in news.events {
                items.push(Item::event(&event));
                self.open.follow(event);
            }
        }
        Ok(())
    }
}
