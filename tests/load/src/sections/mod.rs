//! What can be measured. Each section starts what it needs and stops it again.

mod single;
mod batch;
mod cost;
mod delivery;
mod highest;
mod neighbour;
mod waiting;
mod flat;
mod memory;
mod tenants;
mod scale;
mod streams;

use clap::ValueEnum;

use crate::bench::Bench;

/// A group of measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Section {
    /// Requests with one event, beside the controls.
    Single,
    /// Requests with a hundred events.
    Batch,
    /// Webhooks end to end: the highest rate, and the latency at a low one.
    Delivery,
    /// What an event costs from its acceptance to its webhooks.
    Cost,
    /// What a receiver that hangs, or a dead one's backlog, does to the others.
    Neighbour,
    /// Whether many keys, many retries or many stored events make anything slower.
    Flat,
    /// Whether many tenants make anything slower.
    Tenants,
    /// Memory, the size of the programs and the time that they take to start.
    Memory,
    /// Whether replicas make an event dearer.
    Scale,
    /// One organisation's events over several streams of a cluster.
    Streams,
}

impl Section {
    pub(crate) const ALL: &[Self] = &[
        Self::Single,
        Self::Batch,
        Self::Delivery,
        Self::Cost,
        Self::Neighbour,
        Self::Flat,
        Self::Tenants,
        Self::Memory,
        Self::Scale,
        Self::Streams,
    ];

    pub(crate) async fn measure(self, bench: &mut Bench) -> anyhow::Result<()> {
        let value = self.to_possible_value();
        let name = value.as_ref().map_or("", |value| value.get_name()).to_owned();
        bench.section(name);
        match self {
            Self::Single => Box::pin(single::measure(bench)).await,
            Self::Batch => batch::measure(bench).await,
            Self::Delivery => match bench.against.clone() {
                None => delivery::measure(bench).await,
                Some(program) => highest::compare(bench, program).await,
            },
            Self::Cost => cost::measure(bench).await,
            Self::Neighbour => neighbour::measure(bench).await,
            Self::Flat => flat::measure(bench).await,
            Self::Tenants => Box::pin(tenants::measure(bench)).await,
            Self::Memory => memory::measure(bench).await,
            Self::Scale => scale::measure(bench).await,
            Self::Streams => streams::measure(bench).await,
        }
    }
}
