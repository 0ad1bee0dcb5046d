//! How the power is cut: what a process was told of its disk must be true.

use chaos::{Loss, cut_off};

async fn what_was_told_is_kept(loss: Loss) {
    match cut_off(loss).await.expect("the disks work") {
        Ok(record) => assert!(record.kept || !record.told, "{record:?}"),
        Err(reason) => e2e::skip(env!("CARGO_TARGET_TMPDIR"), &reason),
    }
}

#[tokio::test]
async fn a_power_loss_in_the_middle_of_a_sync_tells_nobody_that_it_was_written() {
    what_was_told_is_kept(Loss::Power).await;
}

#[tokio::test]
async fn a_disk_that_dies_keeps_what_it_said_that_it_had_written() {
    what_was_told_is_kept(Loss::Disk).await;
}
