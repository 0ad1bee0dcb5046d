//! Finding the one thing that cannot be stored among many that can.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use shared::process::panics::panic_text;

/// How often one thing alone may make `store` panic before it is given up.
const PANIC_TRIES: usize = 3;

/// Something that cannot be stored.
#[derive(Debug)]
pub(crate) struct Faulty<'i, T> {
    /// What it is.
    pub item: &'i T,
    /// Why.
    pub reason: String,
}

/// Stores `items`, all at once where that works. When `store` panics, or Postgres refuses a value, the items that are to blame
/// are found by halving and returned; the others are stored. `store` may get items again that it stored before it failed.
///
/// # Errors
/// The first error that is about no value, such as one of the connection.
pub(crate) async fn isolate<'i, T, Stored>(
    items: &'i [T],
    store: impl Fn(&'i [T]) -> Stored,
) -> Result<Vec<Faulty<'i, T>>, sqlx::Error>
where
    Stored: Future<Output = Result<(), sqlx::Error>>,
{
    let (mut faulty, mut parts) = (Vec::new(), vec![items]);
    while let Some(part) = parts.pop() {
        let Some(reason) = fault(part, &store).await? else {
            continue;
        };
        if let [item] = part {
            faulty.push(Faulty { item, reason });
        } else {
            let (one, two) = part.split_at(part.len() / 2);
            parts.extend([two, one]);
        }
    }
    Ok(faulty)
}

/// Why something in `part` cannot be stored; `None` when all of it was stored.
async fn fault<'i, T, Stored>(
    part: &'i [T],
    store: impl Fn(&'i [T]) -> Stored,
) -> Result<Option<String>, sqlx::Error>
where
    Stored: Future<Output = Result<(), sqlx::Error>>,
{
    let tries = if part.len() == 1 { PANIC_TRIES } else { 1 };
    let mut reason = None;
    for _ in 0..tries {
        match AssertUnwindSafe(store(part)).catch_unwind().await {
            Ok(Ok(())) => return Ok(None),
            Ok(Err(error)) if is_about_a_value(&error) => return Ok(Some(error.to_string())),
            Ok(Err(error)) => return Err(error),
            Err(panic) => reason = Some(format!("storing it panicked: {}", panic_text(&*panic))),
        }
    }
    Ok(reason)
}

/// Data exceptions, integrity violations and exceeded limits of the program (SQLSTATE classes 22, 23 and 54, such as a value
/// too long for an index): some value cannot be stored, ever.
fn is_about_a_value(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)))
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const COUNT: u32 = 1_000;

    struct Outcome {
        stored: BTreeSet<u32>,
        faulty: Vec<(u32, String)>,
        calls: usize,
    }

    /// Stores `items`; each of `poison` panics.
    fn store_around(items: &[u32], poison: &BTreeSet<u32>) -> Outcome {
        let (stored, calls) = (RefCell::new(BTreeSet::new()), Cell::new(0));
        let faulty = isolate(items, |part| {
            let (stored, calls) = (&stored, &calls);
            async move {
                calls.set(calls.get() + 1);
                for item in part {
                    assert!(!poison.contains(item), "poison {item}");
                    stored.borrow_mut().insert(*item);
                }
                Ok(())
            }
        });
        let faulty = faulty.now_or_never().expect("nothing here waits").unwrap();
        Outcome {
            faulty: faulty
                .into_iter()
                .map(|faulty| (*faulty.item, faulty.reason))
                .collect(),
            stored: stored.into_inner(),
            calls: calls.get(),
        }
    }

    #[test]
    fn what_makes_the_store_panic_is_found_after_bounded_tries_and_the_rest_is_stored() {
        let items: Vec<_> = (0..COUNT).collect();
        let outcome = store_around(&items, &BTreeSet::from([617]));
        assert_eq!(
            outcome.faulty,
            [(617, "storing it panicked: poison 617".to_owned())]
        );
        assert_eq!(outcome.stored.len(), 999);
        // Two calls for each halving of a thousand, and the tries with the one.
        assert!(outcome.calls <= 2 * 10 + PANIC_TRIES, "{}", outcome.calls);
    }

    #[test]
    fn a_panic_that_does_not_come_again_costs_nothing() {
        let calls = Cell::new(0);
        let stored = isolate(&[1], |_| {
            calls.set(calls.get() + 1);
            let panics = calls.get() < PANIC_TRIES;
            async move {
                assert!(!panics, "out of luck");
                Ok(())
            }
        });
        assert!(stored.now_or_never().unwrap().unwrap().is_empty());
    }

    #[test]
    fn an_error_that_is_nobodys_fault_comes_back_at_once() {
        let calls = Cell::new(0);
        let stored = isolate(&[1, 2, 3, 4], |_| {
            calls.set(calls.get() + 1);
            async { Err(sqlx::Error::PoolTimedOut) }
        });
        assert!(matches!(
            stored.now_or_never().unwrap(),
            Err(sqlx::Error::PoolTimedOut)
        ));
        assert_eq!(calls.get(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn all_that_is_good_is_stored_and_nothing_else(
            count in 0..40u32,
            poison in proptest::collection::btree_set(0..40u32, 0..6),
        ) {
            let items: Vec<_> = (0..count).collect();
            let outcome = store_around(&items, &poison);
            let found: BTreeSet<_> = outcome.faulty.iter().map(|(item, _)| *item).collect();
            prop_assert_eq!(&found, &poison.iter().copied().filter(|item| *item < count).collect());
            for item in items {
                prop_assert!(outcome.stored.contains(&item) != found.contains(&item));
            }
        }
    }
}
