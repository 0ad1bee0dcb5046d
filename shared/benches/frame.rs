//! Frames: `cargo bench -p shared`.

use divan::Bencher;
use divan::counter::ItemsCount;
use shared::domain::clock::UnixMicros;
use shared::domain::event::Event;
use shared::domain::id::EventId;
use shared::wire::frame::{self, EncodedEvent};

fn main() {
    divan::main();
}

fn event(data: &[u8]) -> Event<'_> {
    Event {
        event_type: "order.created",
        data,
        ..Event::sample()
    }
}

#[divan::bench]
fn an_event_is_encoded(bencher: Bencher<'_, '_>) {
    let data = [b'1'; 450];
    let event = event(&data);
    bencher.bench_local(|| EncodedEvent::new(&event));
}

#[divan::bench]
fn an_event_gets_an_id() -> EventId {
    EventId::at(UnixMicros::now())
}

#[divan::bench(args = [1, 64, 1_000])]
fn a_frame_is_packed(bencher: Bencher<'_, '_>, count: usize) {
    let data = [b'1'; 450];
    let events: Vec<_> = (0..count).map(|_| EncodedEvent::new(&event(&data))).collect();
    bencher
        .counter(ItemsCount::new(count))
        .bench_local(|| frame::encode(events.iter()));
}

#[divan::bench(args = [1, 64, 1_000])]
fn a_frame_is_read(bencher: Bencher<'_, '_>, count: usize) {
    let data = [b'1'; 450];
    let events: Vec<_> = (0..count).map(|_| EncodedEvent::new(&event(&data))).collect();
    let payload = frame::encode(events.iter());
    bencher
        .counter(ItemsCount::new(count))
        .bench_local(|| frame::decode(Some(frame::VERSION), &payload).map(|events| events.len()));
}
