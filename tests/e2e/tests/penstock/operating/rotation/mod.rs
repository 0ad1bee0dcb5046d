//! Every secret of a deployment is replaced while events flow: no request is refused and no attempt fails.

mod secrets_keys;
mod passwords;

use e2e::{Load, Organization, Replica, STOP_DEADLINE, Sent, World};

/// Producers whose events together come to 200 a second and more.
const PRODUCERS: usize = 3;

/// Events that are accepted at each step of a rotation.
const EVENTS: usize = 200;

/// No request is refused because the disk is slow, or a new connection to NATS is.
const PUBLISH_TIMEOUT: &str = "20s";

/// A load on one replica, and what producers at the others were told.
struct Rolling {
    load: Load,
    sent: Vec<Sent>,
    newest: usize,
}

impl Rolling {
    fn start(world: &World, organization: &Organization) -> Self {
        Self {
            load: Load::start(&world.producer(organization), PRODUCERS),
            sent: Vec::new(),
            newest: 0,
        }
    }

    /// Replaces both services as a rolling release does: the new ones come first, then the load moves, then the old ones
    /// stop.
    async fn release(&mut self, world: &mut World, organization: &Organization, worker: &[(&str, &str)]) {
        self.release_with(world, organization, worker, worker).await;
    }

    async fn release_with(
        &mut self,
        world: &mut World,
        organization: &Organization,
        worker: &[(&str, &str)],
        ingest: &[(&str, &str)],
    ) {
        let replica = |env: &[(&str, &str)]| {
            let set = |replica: Replica, (name, value): &(&str, &str)| replica.with_env(name, value);
            env.iter().fold(Replica::default(), set)
        };
        let added = world.stack_mut().add_worker_with(replica(worker)).await;
        added.expect("a worker starts");
        let added = world.stack_mut().add_ingest_with(replica(ingest)).await;
        added.expect("an ingest-api starts");
        self.newest += 1;
        let newest = world.producer_at(organization, self.newest);
        let before = std::mem::replace(&mut self.load, Load::start(&newest, PRODUCERS));
        self.sent.push(before.stop().await);
        let old = self.newest - 1;
        let stopped = world.stack_mut().worker_mut(old).terminate(STOP_DEADLINE).await;
        assert!(stopped.expect("it runs").success());
        let stopped = world.stack_mut().ingest_mut(old).terminate(STOP_DEADLINE).await;
        assert!(stopped.expect("it runs").success());
    }

    /// Ends the load. No request was refused or left without an answer; each event arrived at the first attempt.
    async fn finish(mut self, world: &World) {
        self.sent.push(self.load.stop().await);
        let accepted: Vec<_> = self.sent.iter().flat_map(|sent| &sent.accepted).collect();
        for sent in &self.sent {
            assert_eq!((&sent.refused[..], &sent.unanswered[..]), (&[][..], &[][..]));
        }
        let count = i64::try_from(accepted.len()).expect("few");
        world.settle().await;
        world.until_deliveries_are(count, "delivered").await;
        let failed = "select count(*) from deliveries where attempts <> 1 or status <> 'delivered'";
        assert_eq!(
            world.count(failed).await,
            0,
            "deliveries that took another attempt"
        );
    }
}
