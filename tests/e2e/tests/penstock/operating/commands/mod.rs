//! The commands of `delivery-worker` that operators run.

mod audit;
mod explain;
mod requeue;

use e2e::World;
use tokio::process::Command;

use crate::setup;

/// `delivery-worker` with one of its commands, which need no key.
pub(crate) fn worker_command(world: &World, name: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_penstock-stack"));
    command.args(["delivery-worker", name]);
    command.env("DATABASE_URL", world.stack().database_url());
    command.env("NATS_URL", world.stack().nats_urls());
    command.env_remove("SECRETS_KEY");
    command.kill_on_drop(true);
    command
}

#[tokio::test]
async fn a_database_is_migrated_by_who_has_neither_nats_nor_the_key() {
    let world = setup().start().await;
    let output = worker_command(&world, "migrate")
        .env_remove("NATS_URL")
        .output()
        .await;
    let output = output.expect("the program can be run");
    assert!(output.status.success(), "{output:?}");
    world.finish().await;
}
