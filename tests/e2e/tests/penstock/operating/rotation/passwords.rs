//! The passwords of NATS and of Postgres.

use e2e::{Load, Replica, Signal, World, until};

use super::{EVENTS, PUBLISH_TIMEOUT, Rolling};
use crate::calls::json;
use crate::setup;

/// The files that the services' passwords stand in.
struct Files(tempfile::TempDir);

impl Files {
    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("it can be written");
    }

    /// A replica of a service that reads its passwords in these files.
    fn replica(&self, name: &str, database_url: &str) -> Replica {
        let replica = Replica::default().with_env("NATS_PASSWORD_FILE", &self.path(name));
        let replica = replica.with_env("DATABASE_URL", database_url);
        replica.with_env("DATABASE_PASSWORD_FILE", &self.path("postgres"))
    }
}

/// Who is connected to nats-server: the connection's number of each service.
async fn nats_connections(world: &World) -> Vec<(String, u64)> {
    let url = format!("{}/connz?auth=true", world.stack().nats().monitoring_url());
    let figures = json(world.http().get(url)).await;
    let connections = figures["connections"].as_array().expect("there are some");
    let pair = |connection: &serde_json::Value| {
        let user = connection["authorized_user"].as_str()?;
        Some((user.to_owned(), connection["cid"].as_u64()?))
    };
    let mut all: Vec<_> = connections.iter().filter_map(pair).collect();
    all.retain(|(user, _)| user != "operator");
    all.sort();
    all
}

/// Ends the services' connections to Postgres, so that they need new ones.
async fn end_idle_sessions(world: &World) {
    world
        .execute(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where application_name in ('ingest-api', 'delivery-worker') and state = 'idle'",
        )
        .await;
}

/// The files first, then the server, which closes the connections of whoever has the old password.
async fn replace_in_nats(world: &World, files: &Files, password: &str) {
    let before = nats_connections(world).await;
    files.write("ingest-api", password);
    files.write("delivery-worker", password);
    let configuration = world.stack().data_dir().join("nats.conf");
    let text = std::fs::read_to_string(&configuration).expect("it is there");
    let quoted = format!("\"{password}\"");
    let text = text.replace("$INGEST_API_NATS_PASSWORD", &quoted);
    let text = text.replace("$DELIVERY_WORKER_NATS_PASSWORD", &quoted);
    std::fs::write(&configuration, text).expect("it can be written");
    let reloaded = world.stack().nats().signal(Signal::SIGHUP);
    reloaded.expect("nats-server runs");
    until("both services to connect again", async || {
        let now = nats_connections(world).await;
        let is_new = now.len() == 2 && now.iter().all(|pair| !before.contains(pair));
        is_new.then_some(()).ok_or_else(|| format!("{now:?}"))
    })
    .await;
}

/// The role first, then the file. Who needs a new connection in between waits.
async fn replace_in_postgres(world: &World, files: &Files, load: &Load) {
    world
        .execute("alter role services password 'second of postgres'")
        .await;
    end_idle_sessions(world).await;
    load.accepts(EVENTS).await;
    files.write("postgres", "second of postgres");
    until("both services to know the password", async || {
        let told = "new connections to Postgres use another password";
        let logs = [world.stack().ingest(0).log(), world.stack().worker(0).log()];
        let all = logs.iter().all(|log| log.contains(told));
        all.then_some(()).ok_or_else(|| "not yet".to_owned())
    })
    .await;
    end_idle_sessions(world).await;
    load.accepts(EVENTS).await;
}

#[tokio::test]
async fn passwords_of_nats_and_postgres_are_replaced_while_events_flow() {
    let files = Files(tempfile::tempdir().expect("there is room"));
    files.write("ingest-api", "ingest-api\n");
    files.write("delivery-worker", "delivery-worker\n");
    let setup = setup().ingest_env("PUBLISH_TIMEOUT", PUBLISH_TIMEOUT);
    let mut world = setup.nats_users().replicas(0, 0).start().await;
    // A role of the services' own: the test goes on with its own password.
    world
        .execute("create role services superuser login password 'first of postgres'")
        .await;
    files.write("postgres", "first of postgres");
    let (_, host) = world
        .stack()
        .database_url()
        .split_once('@')
        .expect("it has a host");
    let url = format!("postgres://services@{host}");
    let ingest = files.replica("ingest-api", &url);
    let worker = files.replica("delivery-worker", &url);
    let stack = world.stack_mut();
    stack.add_ingest_with(ingest).await.expect("an ingest-api starts");
    stack.add_worker_with(worker).await.expect("a worker starts");
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let rolling = Rolling::start(&world, &organization);
    rolling.load.accepts(EVENTS).await;

    replace_in_nats(&world, &files, "second of nats").await;
    rolling.load.accepts(EVENTS).await;
    replace_in_postgres(&world, &files, &rolling.load).await;
    rolling.finish(&world).await;
    world.finish().await;
}
