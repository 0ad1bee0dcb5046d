//! Signatures: `cargo bench -p delivery-worker`.

use delivery_worker::sign::Signer;
use divan::Bencher;
use shared::domain::clock::UnixMicros;
use shared::domain::id::EventId;
use shared::secret::SigningSecret;

fn main() {
    divan::main();
}

#[divan::bench(args = [500, 5_000, 250_000])]
fn a_body_is_signed(bencher: Bencher<'_, '_>, bytes: usize) {
    let signer = Signer::new(&SigningSecret::generate());
    let (id, body) = (EventId::at(UnixMicros::now()), vec![b'x'; bytes]);
    bencher.bench_local(|| signer.sign(id, 1_700_000_000, &body));
}
