//! Egress proxies: tinyproxy of Debian (CONNECT) and pproxy of pip (SOCKS5).

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use e2e::{Event, World, until};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::{put_off, until_put_off};
use crate::capture::{Capture, free_port};
use crate::programs::{debian, python};
use crate::setup;

/// Debian's tinyproxy; nothing, and loudly, where apt has none.
pub(crate) async fn tinyproxy() -> Option<PathBuf> {
    debian::program("tinyproxy-bin", "usr/bin/tinyproxy").await
}

/// A proxy that runs.
pub(crate) struct Proxy {
    command: Command,
    process: Option<Child>,
    port: u16,
    log: PathBuf,
}

impl Proxy {
    async fn start(mut command: Command, port: u16) -> Self {
        let log = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("proxy-{port}.log"));
        command.stdin(Stdio::null()).kill_on_drop(true);
        let mut proxy = Self {
            command,
            process: None,
            port,
            log,
        };
        proxy.start_again().await;
        proxy
    }

    pub(crate) async fn http(program: &Path) -> Self {
        let port = free_port();
        let config = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("tinyproxy-{port}.conf"));
        let text =
            format!("Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 100\nBasicAuth user p.ss\n");
        std::fs::write(&config, text).expect("the build folder can be written");
        let mut command = Command::new(program);
        command.arg("-d").arg("-c").arg(config);
        Self::start(command, port).await
    }

    async fn socks5() -> Self {
        let packages = python::packages(&["pproxy==2.7.9"]).await;
        let port = free_port();
        let mut command = Command::new("python3");
        let listen = format!("socks5://127.0.0.1:{port}#user:p.ss");
        command
            .args(["-m", "pproxy", "-v", "-l", &listen])
            .env("PYTHONPATH", packages);
        Self::start(command, port).await
    }

    pub(crate) async fn start_again(&mut self) {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.expect("the build folder can be written");
        let errors = log.try_clone().expect("a file can be shared");
        let process = self.command.stdout(log).stderr(errors).spawn();
        self.process = Some(process.expect("it was installed"));
        until("the proxy to listen", async || {
            let connected = TcpStream::connect(("127.0.0.1", self.port)).await;
            connected.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }

    pub(crate) async fn stop(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().await.expect("it can be ended");
    }

    /// Sends a signal to it.
    async fn signal(&self, name: &str) {
        let pid = self
            .process
            .as_ref()
            .and_then(Child::id)
            .expect("it runs")
            .to_string();
        let sent = Command::new("kill").args([name, &pid]).status().await;
        assert!(sent.is_ok_and(|status| status.success()));
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("it has a log")
    }

    /// Its URL, with a password.
    pub(crate) fn url(&self, scheme: &str, password: &str) -> String {
        format!("{scheme}://user:{password}@127.0.0.1:{}", self.port)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.log);
    }
}

/// The number and the outcome of each attempt.
pub(crate) async fn attempts(world: &World, event: shared::domain::id::EventId) -> Vec<(u32, String)> {
    let attempts = world.attempts_of(event).await.into_iter();
    attempts
        .map(|attempt| {
            (
                u32::try_from(attempt.number).expect("it is small"),
                attempt.outcome,
            )
        })
        .collect()
}

pub(crate) fn one(outcome: &str) -> Vec<(u32, String)> {
    vec![(1, outcome.to_owned())]
}

#[tokio::test]
async fn webhooks_go_through_a_connect_proxy_that_hears_only_of_checked_addresses() {
    let Some(program) = tinyproxy().await else {
        return;
    };
    let mut proxy = Proxy::http(&program).await;
    let setup = setup().worker_env("EGRESS_PROXY", &proxy.url("http", "p%2Ess"));
    let setup = setup
        .worker_env("EGRESS_ALLOW", "127.0.0.1/32")
        .worker_env("CIRCUIT_FAILURES", "2");
    let world = setup.worker_env("RETRY_ATTEMPTS", "1").start().await;
    let capture = Capture::start().await;
    let named = format!("http://localhost:{}/", capture.port());
    let [organization, guarded, unreachable] = [
        world.organization().await,
        world.organization().await,
        world.organization().await,
    ];
    // Longer than it takes to find out that the proxy is frozen, also on a busy machine.
    let patient = json!({"timeout_ms": 20_000});
    let (endpoint, _) = world.endpoint_at(&organization, &named, patient).await;
    let send = async |organization: &e2e::Organization| {
        let event = Event::new("a", "1");
        world.producer(organization).send(&event).await
    };
    let event = send(&organization).await;
    world.until_delivery_is(event, "delivered").await;
    let log = proxy.log();
    assert!(
        log.contains(&format!("CONNECT 127.0.0.1:{} ", capture.port())),
        "{log}"
    );
    assert!(!log.contains("localhost"), "{log}");

    // The guard comes first: of this address the proxy hears nothing.
    let (private, _) = world.endpoint_at(&guarded, &named, json!({})).await;
    let url = format!("http://127.0.0.2:{}/", capture.port());
    let change = sqlx::query("update endpoints set url = $2 where id = $1")
        .bind(private.id)
        .bind(url);
    change.execute(world.database()).await.expect("Postgres runs");
    let event = send(&guarded).await;
    world.until_delivery_is(event, "dead").await;
    assert_eq!(attempts(&world, event).await, one("refused"));
    assert!(!proxy.log().contains("127.0.0.2"));

    // That nobody listens is the receiver's fault.
    let url = format!("http://127.0.0.1:{}/", free_port());
    world.endpoint_at(&unreachable, &url, json!({})).await;
    let event = send(&unreachable).await;
    world.until_delivery_is(event, "dead").await;
    assert_eq!(attempts(&world, event).await, one("connect"));

    // A proxy that is away, or frozen, is this deployment's: no attempt, no failure.
    proxy.stop().await;
    let away = send(&organization).await;
    until_put_off(&world, "proxy", 2.0).await;
    proxy.start_again().await;
    world.until_delivery_is(away, "delivered").await;
    assert_eq!(attempts(&world, away).await, one("delivered"));
    proxy.stop().await;
    proxy.start_again().await;
    proxy.signal("-STOP").await;
    let before = put_off(&world, "proxy").await;
    let frozen = send(&organization).await;
    until_put_off(&world, "proxy", before + 1.0).await;
    proxy.signal("-CONT").await;
    world.until_delivery_is(frozen, "delivered").await;
    assert_eq!(attempts(&world, frozen).await, one("delivered"));
    let failed = sqlx::query_scalar("select exists (select from endpoint_health where endpoint_id = $1)");
    let failed: bool = failed
        .bind(endpoint.id)
        .fetch_one(world.database())
        .await
        .expect("Postgres runs");
    assert!(!failed);
    world.finish().await;
}

#[tokio::test]
async fn a_proxy_that_wants_another_password_costs_no_attempt() {
    let Some(program) = tinyproxy().await else {
        return;
    };
    for scheme in ["http", "socks5"] {
        let proxy = match scheme {
            "http" => Proxy::http(&program).await,
            _ => Proxy::socks5().await,
        };
        let setup = setup().worker_env("EGRESS_PROXY", &proxy.url(scheme, "wrong-canary"));
        let mut world = setup.worker_env("RETRY_ATTEMPTS", "1").start().await;
        let organization = world.organization().await;
        let receiver = world.receiver().await;
        world.endpoint(&organization, &receiver).await;
        let event = world.producer(&organization).send(&Event::new("a", "1")).await;
        until_put_off(&world, "proxy", 1.0).await;
        assert_eq!(attempts(&world, event).await, []);
        assert_eq!(receiver.count(), 0);
        world
            .until_worker_logs("the egress proxy wants another user or password")
            .await;
        let log = world.stack().worker(0).log();
        assert!(!log.contains("wrong-canary"), "{log}");
        sqlx::query("update endpoints set deleted_at = now()")
            .execute(world.database())
            .await
            .expect("Postgres runs");
        world.settle().await;
        world.finish().await;
    }
}

#[tokio::test]
async fn webhooks_go_through_a_socks5_proxy() {
    let proxy = Proxy::socks5().await;
    let setup = setup().worker_env("EGRESS_PROXY", &proxy.url("socks5", "p%2Ess"));
    let world = setup.start().await;
    let organization = world.organization().await;
    let capture = Capture::start().await;
    let named = format!("http://localhost:{}/", capture.port());
    world.endpoint_at(&organization, &named, json!({})).await;
    let event = world.producer(&organization).send(&Event::new("a", "1")).await;
    world.until_delivery_is(event, "delivered").await;
    assert_eq!(capture.wait_for(1).await.len(), 1);
    let log = proxy.log();
    assert!(log.contains(&format!("127.0.0.1:{}", capture.port())), "{log}");
    assert!(!log.contains("localhost"), "{log}");
    world.finish().await;
}

#[tokio::test]
async fn a_proxy_that_is_none_ends_the_start_without_its_password_in_a_line() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_penstock-stack"));
    command
        .arg("delivery-worker")
        .env("EGRESS_PROXY", "https://user:canary-99@proxy");
    command
        .env("DATABASE_URL", "postgres://db")
        .env("SECRETS_KEY", "x");
    let output = command.output().await.expect("it can be run");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && !told.contains("canary-99"), "{told}");
}
