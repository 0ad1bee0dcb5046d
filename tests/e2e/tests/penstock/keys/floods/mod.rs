//! Floods of keys that are none: they cost no argon2, and whoever holds a valid key does not notice.

mod beside;

use std::sync::atomic::{AtomicU64, Ordering};

use data_encoding::BASE32_NOPAD;
use e2e::{Setup, World};
use futures_util::{StreamExt as _, stream};
use shared::secret::KeyCheck;

use crate::calls::tried;
use crate::setup;

const SECRETS_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// What counts the refused keys.
const FORGERIES: &str = "penstock_key_forgeries_total";
const LOOKUPS: &str = "penstock_key_lookups_total";
const ARGON2: &str = "penstock_key_verifications_total";

/// Makes keys that Postgres has never heard of. Each number makes another.
#[derive(Clone, Copy)]
enum Maker {
    /// Ids and secrets of the right form, with a check that is not ours.
    Guesses,
    /// Like our own down to the check, as from someone who knows `SECRETS_KEY`, or an organisation's worth of keys
    /// that are gone.
    Knows,
}

impl Maker {
    fn key(self, number: u64) -> String {
        let random = blake3::derive_key("a test's random numbers", &number.to_be_bytes());
        let (id, _) = random.split_at(10);
        let id = lower_base32(id);
        let check = match self {
            Self::Guesses => [random[0]; 8],
            Self::Knows => check(&id, &random),
        };
        format!("pk_live_{id}_{}", lower_base32(&[&random[..], &check].concat()))
    }
}

/// As `ingest-api` computes it.
fn check(id: &str, random: &[u8]) -> [u8; 8] {
    let key = KeyCheck::of(&SECRETS_KEY.parse().expect("it is a key")).remove(0);
    let mut hasher = blake3::Hasher::new_keyed(key.as_bytes());
    hasher.update(b"pk_live_").update(id.as_bytes()).update(random);
    let mut check = [0; 8];
    hasher.finalize_xof().fill(&mut check);
    check
}

fn lower_base32(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_lowercase()
}

/// One replica whose `SECRETS_KEY` the tests know.
fn known_setup() -> Setup {
    setup().replicas(1, 0).ingest_env("SECRETS_KEY", SECRETS_KEY)
}

async fn counts(world: &World) -> [u64; 3] {
    let mut counts = [0; 3];
    for (count, name) in counts.iter_mut().zip([FORGERIES, LOOKUPS, ARGON2]) {
        *count = world.metric(0, name).await;
    }
    counts
}

/// Checks how often each of them is counted in a flood. A key that a busy machine answers with 503 is tried again, and may have
/// been looked up before it.
async fn counts_are(world: &World, expected: [u64; 3], flood: impl Future<Output = u64>) {
    let before = counts(world).await;
    let busy = flood.await;
    let after = counts(world).await;
    let [forgeries, lookups, argon2] = std::array::from_fn(|index| after[index] - before[index]);
    assert_eq!([forgeries, argon2], [expected[0], expected[2]]);
    let [_, least, _] = expected;
    assert!(
        (least..=least + busy).contains(&lookups),
        "{lookups} look-ups, {busy} times busy"
    );
}

/// Tries keys, many at once, and a valid one again and again meanwhile. They are refused, and it is not. A 503, which a machine
/// with too much to do gives, is tried again; returns how many keys got one.
async fn flood(world: &World, valid: &str, keys: impl Iterator<Item = String>) -> u64 {
    let busy = AtomicU64::new(0);
    let answered = async |key: &str| loop {
        match tried(world, 0, key).await.as_u16() {
            503 => _ = busy.fetch_add(1, Ordering::Relaxed),
            answer => return answer,
        }
    };
    let answers = stream::iter(keys)
        .map(async |key| answered(&key).await)
        .buffer_unordered(32);
    let flood = answers.for_each(async |answer| assert_eq!(answer, 401));
    let mut used = 0;
    let valid_use = async {
        loop {
            match tried(world, 0, valid).await.as_u16() {
                404 => used += 1,
                answer => assert_eq!(answer, 503),
            }
        }
    };
    tokio::select! {
        () = flood => {}
        () = valid_use => {}
    }
    assert!(used > 10, "{used} requests with the valid key");
    busy.into_inner()
}

#[tokio::test]
async fn a_flood_of_made_up_keys_costs_neither_look_ups_nor_argon2_and_no_valid_key_its_answers() {
    let world = known_setup().start().await;
    let valid = world.organization().await.key;
    assert_eq!(tried(&world, 0, &valid).await, 404);
    let (head, last) = valid.split_at(valid.len() - 1);
    let altered = format!("{head}{}", if last == "a" { "b" } else { "a" });
    let keys = (0..3_000).map(|number| Maker::Guesses.key(number));
    let flood = flood(&world, &valid, keys.chain([altered]));
    counts_are(&world, [3_001, 0, 0], flood).await;
    world.finish().await;
}

#[tokio::test]
async fn a_flood_of_unknown_keys_with_a_right_check_costs_one_look_up_each_and_no_argon2() {
    const KEYS: u64 = 500;
    let setup = known_setup().ingest_env("KEY_REFUSAL_TTL", "1h");
    let world = setup.start().await;
    let valid = world.organization().await.key;
    assert_eq!(tried(&world, 0, &valid).await, 404);
    for lookups in [KEYS, 0] {
        let keys = (0..KEYS).map(|number| Maker::Knows.key(number));
        let flood = flood(&world, &valid, keys.clone().chain(keys));
        counts_are(&world, [0, lookups, 0], flood).await;
    }
    world.finish().await;
}
