//! A bounded form of every fault but the soak's length. `cargo chaos` runs them in full.
//!
//! Most of them mostly wait, and run beside each other. Tests start in the order of their names: those that want the machine
//! for themselves come first, one after the other, so that it need not become free again and again.

use std::num::NonZeroUsize;
use std::sync::LazyLock;
use std::thread::available_parallelism;

use chaos::{Fault, Outcome, Stage, row};
use tokio::sync::Semaphore;

/// The most faults at once. On one processor it is one: the clients of two would starve.
static AT_ONCE: LazyLock<u32> = LazyLock::new(|| {
    let processors = available_parallelism().map_or(1, NonZeroUsize::get);
    if processors < 2 { 1 } else { 2 }
});

/// The room for them. It is given in the order in which it was asked for, so that nobody who wants all of it is passed by.
static ROOM: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(*AT_ONCE as usize));

async fn holds(fault: Fault) {
    let reason = fault.wants_the_machine();
    let room = if reason.is_some() { *AT_ONCE } else { 1 };
    let _room = ROOM.acquire_many(room).await.expect("nobody closes it");
    if let Some(reason) = reason {
        println!("{} runs alone: {reason}", fault.name());
    }
    let outcome = fault.run(&Stage::quick(env!("CARGO_BIN_EXE_chaos"))).await;
    let row = row(&fault.name(), &outcome);
    match outcome {
        Outcome::Ran(report) => assert!(report.is_good(), "{row}"),
        Outcome::Skipped(reason) => e2e::skip(env!("CARGO_TARGET_TMPDIR"), &reason),
    }
}

/// Those with [`Fault::wants_the_machine`].
mod alone {
    use chaos::Fault;

    use super::holds;

    #[tokio::test]
    async fn a_thousand_connections_that_dribble_are_closed_and_keep_nobody_out() {
        holds(Fault::Slowloris).await;
    }

    #[tokio::test]
    async fn hostile_filters_and_batches_are_decided_and_hold_nobody_up() {
        holds(Fault::FilterFlood).await;
    }

    #[tokio::test]
    async fn receivers_that_answer_without_end_cost_their_neighbours_nothing() {
        holds(Fault::FloodingReceiver).await;
    }

    #[tokio::test]
    async fn connections_that_hang_are_left() {
        holds(Fault::HungConnection).await;
    }

    #[tokio::test]
    async fn logs_that_nobody_reads_change_nothing() {
        holds(Fault::LogPipe).await;
    }

    #[tokio::test]
    async fn nothing_grows_while_nothing_happens() {
        holds(Fault::Soak).await;
    }
}

/// The others.
mod beside_another {
    use chaos::Fault;

    use super::holds;

    #[tokio::test]
    async fn nothing_is_lost_when_nats_is_killed_again_and_again() {
        holds(Fault::NatsKill).await;
    }

    #[tokio::test]
    async fn every_request_is_answered_while_nats_hangs() {
        holds(Fault::NatsFreeze).await;
    }

    #[tokio::test]
    async fn a_nats_whose_disk_was_full_is_named_and_accepts_again_after_its_restart() {
        holds(Fault::NatsFullDisk).await;
    }

    #[tokio::test]
    async fn nothing_is_lost_when_the_power_of_nats_fails() {
        holds(Fault::PowerLoss).await;
    }

    #[tokio::test]
    async fn nothing_is_lost_when_the_disk_of_nats_dies() {
        holds(Fault::DiskDies).await;
    }

    #[tokio::test]
    async fn nothing_is_lost_when_the_power_of_one_nats_of_a_cluster_fails() {
        holds(Fault::NodePowerLoss).await;
    }

    #[tokio::test]
    async fn with_natss_own_interval_of_syncs_a_power_loss_loses_events() {
        holds(Fault::PowerLossControl).await;
    }

    #[tokio::test]
    async fn nothing_is_lost_when_ingest_is_killed_again_and_again() {
        holds(Fault::IngestKill).await;
    }

    #[tokio::test]
    async fn a_killed_worker_repeats_no_more_than_it_had_in_flight() {
        holds(Fault::WorkerKill).await;
    }

    #[tokio::test]
    async fn a_rolling_restart_of_everything_fails_no_request_and_repeats_no_webhook() {
        holds(Fault::RollingRestart).await;
    }

    #[tokio::test]
    async fn ingest_goes_on_while_postgres_crashes_again_and_again() {
        holds(Fault::PostgresCrash).await;
    }

    #[tokio::test]
    async fn ingest_goes_on_while_postgres_hangs() {
        holds(Fault::PostgresFreeze).await;
    }

    #[tokio::test]
    async fn no_worker_ends_when_postgress_disk_is_full_and_all_goes_on_when_there_is_room() {
        holds(Fault::PostgresFullDisk).await;
    }

    #[tokio::test]
    async fn nothing_is_lost_when_postgress_disk_is_gone_and_its_tables_are_restored() {
        holds(Fault::Restore).await;
    }

    #[tokio::test]
    async fn ordering_keys_that_wait_cost_neither_postgres_nor_other_customers_anything() {
        holds(Fault::WaitingKeys).await;
    }

    #[tokio::test]
    async fn a_full_stream_refuses_and_resumes_when_it_is_drained() {
        holds(Fault::StreamFull).await;
    }

    #[tokio::test]
    async fn nothing_is_lost_when_the_leader_of_a_cluster_is_killed() {
        holds(Fault::LeaderKill).await;
    }

    #[tokio::test]
    async fn a_leader_that_hangs_is_left_for_another() {
        holds(Fault::LeaderFreeze).await;
    }

    #[tokio::test]
    async fn a_leader_that_is_cut_off_is_left_for_another() {
        holds(Fault::LeaderCutOff).await;
    }

    #[tokio::test]
    async fn nothing_is_lost_between_parts_with_bad_connections() {
        holds(Fault::Network).await;
    }

    #[tokio::test]
    async fn clocks_that_are_an_hour_wrong_change_nothing() {
        holds(Fault::Clock).await;
    }

    #[tokio::test]
    async fn a_worker_may_die_at_every_one_of_its_effects() {
        holds(Fault::CrashPoints).await;
    }

    #[tokio::test]
    async fn two_releases_work_side_by_side() {
        holds(Fault::Releases).await;
    }
}
